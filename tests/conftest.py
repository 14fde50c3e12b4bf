"""Shared by all tests: one BLAS thread per process, and property tests without deadlines."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Several threads a process would wait for each other on a busy machine.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def registries():
    """Entries that an example makes are removed when its test ends."""
    from eigen.extractors.registry import REGISTRY
    from eigen.solvers.registry import SOLVERS
    from eval.sazs import fusion

    known = (REGISTRY, SOLVERS, fusion.METHODS, fusion.GRIDS)
    before = [dict(registry) for registry in known]
    yield
    for registry, entries in zip(known, before, strict=True):
        registry.clear()
        registry.update(entries)
