"""Start a command once per GPU, and end all of it in one line.

The command that the user typed runs again under torchrun, whose processes find each other. What
ends one of them is handed to the launcher through torchrun's error file, so that it is reported
once and not by every process.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from data.errors import RunError, SettingError
from data.parallel import check_processes, cores
from train.distributed import OTHERS_ENDED

log = logging.getLogger(__name__)

_LAUNCHED = "EIGENSHAPE_LAUNCHED"
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


def launched() -> bool:
    """Whether this process was started by `start_processes`."""
    return _LAUNCHED in os.environ


def processes(wanted: int | None, device: str, *, batch: int) -> int:
    """Processes to start: `wanted`, or one per GPU that torch sees; 1 in a process of a run.

    Parameters
    ----------
    device : "auto", "cpu", "cuda" or "cuda:N"
        On the CPU, or with a number, there is one process unless more are wanted.
    batch : samples of a step
        Where they cannot be divided among all GPUs, as many of these are used as divide them; the
        published data-parallel wrapper, too, uses three of four for a batch of 6.

    Raises
    ------
    SettingError
        More processes than GPUs, or several for one GPU.
    """
    if "LOCAL_RANK" in os.environ:
        return 1
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if wanted is None:
        used = next((n for n in range(min(gpus, batch), 1, -1) if batch % n == 0), 1)
        if used < gpus:
            log.warning(
                "%d of %d GPUs are used: a batch of %d cannot be divided among more; with "
                "--batch_size %d it can",
                *(used, gpus, batch, -(-batch // gpus) * gpus),
            )
        return used
    if wanted > 1 and (":" in device or (device != "cpu" and 0 < gpus < wanted)):
        raise SettingError(
            f"--processes {wanted}: expected at most one per GPU, found {gpus or 1} for --device "
            f"{device}; leave it out to use all visible GPUs"
        )
    return wanted


def start_processes(count: int, place: Sequence[str] = ("--standalone",), *, resume: str) -> None:
    """Run this command again in `count` processes of this machine, and wait for them.

    Parameters
    ----------
    place : arguments of torchrun that say where the processes meet
    resume : how an interrupted run is continued, in the words of the command

    Raises
    ------
    RunError
        A process was killed or ended with an error, or the run was stopped.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):  # reports of the same end, in a dozen lines
            logging.getLogger(name).disabled = True
    os.environ[_LAUNCHED] = "1"
    check_processes(count, "processes")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // count)))
    try:
        run.main([f"--nproc-per-node={count}", *place, *sys.argv])
    except ChildFailedError as error:
        raise RunError(_first_cause(error.failures, count, resume)) from error
    except SignalException as error:
        name = error.sigval.name
        raise RunError(f"{name}: all processes of the run were stopped; {resume}") from error


def _first_cause(failures: dict, count: int, resume: str) -> str:
    """What ended the run: a kill, else an error of a process that did not end for another one.

    torchrun ends the processes that remain with SIGTERM, which therefore comes after errors.
    """

    def order(failure: Any) -> tuple[bool, bool, bool, float]:
        killed, terminated = failure.exitcode < 0, failure.exitcode == -signal.SIGTERM
        others = OTHERS_ENDED in str(failure.message)
        return others, terminated, not killed, failure.timestamp

    first = min(failures.values(), key=order)
    if first.exitcode < 0:
        return (
            f"process {first.local_rank} of {count} was killed by {first.signal_name()}, usually "
            f"because the machine ran out of memory; {resume}"
        )
    if not Path(first.error_file).is_file():
        return f"process {first.local_rank} of {count} ended first; its message is above"
    return first.message


def hand_on(message: str) -> None:
    """Leave the message of an error for the launcher."""
    content = {"message": message, "timestamp": int(time.time())}
    Path(os.environ[_ERROR_FILE]).write_text(json.dumps(content))
