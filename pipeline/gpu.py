"""One job per GPU on a machine with several.

Snakemake counts GPUs but does not assign them. So a job to which none is assigned (by SLURM or by
hand, in CUDA_VISIBLE_DEVICES) takes the first whose lock file is free, and holds the lock while it
runs. The kernel releases the lock of a killed job.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)


def count() -> int:
    """GPUs of this machine; 0 where there is no driver."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(listed.stdout.splitlines())


@contextlib.contextmanager
def claimed(gpus: int | None = None, folder: Path | None = None) -> Iterator[int | None]:
    """Hold a GPU and make it the only one that this process sees.

    Must be entered before torch initialises CUDA. With one GPU or none, or where
    CUDA_VISIBLE_DEVICES is set, nothing is done and None is yielded; also if all are taken, because
    more jobs run than there are GPUs.
    """
    gpus = count() if gpus is None else gpus
    if gpus < 2 or "CUDA_VISIBLE_DEVICES" in os.environ:
        yield None
        return
    folder = folder or Path(tempfile.gettempdir())
    for number in range(gpus):
        path = folder / f"eigenshape-{getpass.getuser()}-gpu-{number}.lock"
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            os.environ["CUDA_VISIBLE_DEVICES"] = str(number)
            log.info("GPU %d of %d", number, gpus)
            try:
                yield number
            finally:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            return
    log.warning("all %d GPUs are used by other jobs; run fewer at once (--resources gpu=N)", gpus)
    yield None
