"""One BLAS thread a test process: several would wait for each other on a busy machine."""

import os

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
