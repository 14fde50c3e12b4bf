"""Shared by all tests: one BLAS thread per process, and property tests without deadlines."""

import os

from hypothesis import HealthCheck, settings

# Several threads a process would wait for each other on a busy machine.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
