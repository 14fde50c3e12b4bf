"""Run a task over items, in order, on the workers of a dask.distributed scheduler.

Workers may come and go: what a lost worker had computed or begun is computed again by another, so
the results are those of a serial run. A run ends with an error once no worker is left.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from data.errors import RunError
from pipeline import provenance
from pipeline.single_threaded import hold_for_life

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")
Result = TypeVar("Result")
InFlight = Callable[[Callable[[Item], Any], Iterable[Item], int], Iterator[Any]]

_OTHER_ENVIRONMENT = "deserialization of the task graph"
"""Part of the scheduler's error if it cannot import the module of a task."""
CONNECT_S = 10.0
POLL_S = 1.0
WITHOUT_WORKERS_S = 10.0
"""Long enough for a worker's supervisor (dask's nanny) to start it again."""


def run_on(
    scheduler: str,
    task: Callable[[Item], Result],
    items: Iterable[Item],
    in_flight: InFlight[Item],
) -> Iterator[Result]:
    """Yield `task(item)` for each item, in the order of the items.

    Parameters
    ----------
    scheduler : str
        Address, as "tcp://host:8786".
    in_flight : callable
        Takes what submits an item, the items and the number of workers; yields the results.

    Raises
    ------
    RunError
        No scheduler answers, it has no workers (any more), they are of another version or lack
        this software, or a task ended several of them.
    """
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    with _quiet(), _connected(scheduler) as client:
        cores = _cores(client, scheduler)
        run = functools.partial(_on_worker, provenance.software(), task)
        # dask remembers pure tasks by their arguments: it would not read a changed image again.
        submit = lambda item: _Pending(client, client.submit(run, item, pure=False), scheduler)  # noqa: E731
        try:
            yield from in_flight(submit, items, cores)
        except KilledWorker as error:
            raise RunError(
                f"scheduler {scheduler}: workers were killed several times while computing one "
                "image, usually because they ran out of memory; start workers with more memory"
            ) from error
        except (ImportError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and _OTHER_ENVIRONMENT not in str(error):
                raise
            missing = f" ({error})" if isinstance(error, ImportError) else ""
            raise RunError(
                f"scheduler {scheduler}: it or a worker of it cannot import this software{missing};"
                " start scheduler and workers in the environment of this run"
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise RunError(
                f"scheduler {scheduler}: the connection was lost during the run; start the "
                "scheduler and its workers again, then repeat the command"
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep distributed from logging tracebacks of what is reported as one line."""
    # Each of its loggers has its own level.
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    names.append("asyncio")  # reports gathers that were given up
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _connected(scheduler: str) -> Client:
    from distributed import Client

    expected = 'expected one like "tcp://host:8786", as `dask scheduler` prints it'
    if not _is_address(scheduler):
        raise RunError(f"scheduler {scheduler}: not an address; {expected}")
    try:
        return Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        raise RunError(
            f"scheduler {scheduler}: no dask scheduler answers at this address within "
            f"{CONNECT_S:.0f} s; {expected}"
        ) from error


def _is_address(text: str) -> bool:
    """Checked here, because distributed reports some addresses only after half a minute."""
    scheme, _, rest = text.rpartition("://")
    try:
        parts = urlsplit(f"//{rest}")
        return scheme in ("", "tcp", "tls", "ws", "wss") and bool(parts.hostname and parts.port)
    except ValueError:
        return False


def _cores(client: Client, scheduler: str) -> int:
    deadline = time.monotonic() + WITHOUT_WORKERS_S
    while not (cores := sum(client.ncores().values())):
        if time.monotonic() > deadline:
            raise RunError(_no_workers(scheduler, "has no workers"))
        time.sleep(0.2)
    return cores


def _no_workers(scheduler: str, state: str) -> str:
    return (
        f"scheduler {scheduler} {state} (waited {WITHOUT_WORKERS_S:.0f} s); start some with "
        f"`dask worker {scheduler}` and run the same command again"
    )


def _on_worker(software: str, task: Callable[[Item], Result], item: Item) -> Result:
    hold_for_life()  # here, because workers that join later must hold to one thread too
    if (own := provenance.software()) != software:
        raise RunError(
            f"a dask worker runs eigenshape {own}, this is {software}; start the workers again"
        )
    return task(item)


class _Pending:
    """A result under way, given up once the scheduler has been without workers for a while."""

    def __init__(self, client: Client, future: Future, scheduler: str) -> None:
        self._client, self._future, self._scheduler = client, future, scheduler

    def result(self) -> Any:
        last_worker = time.monotonic()
        while True:
            try:
                return self._future.result(timeout=POLL_S)
            except TimeoutError:
                if self._future.status == "error":
                    raise  # the task's own
            if self._client.ncores():
                last_worker = time.monotonic()
            elif time.monotonic() - last_worker > WITHOUT_WORKERS_S:
                raise RunError(_no_workers(self._scheduler, "has lost all its workers"))
