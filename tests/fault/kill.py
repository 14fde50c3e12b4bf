"""Processes killed at random moments: the same command again ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from tests.fault import watchdog
from tests.fault.scenarios import STAGES, TRAINING, Bench, Scenario, all_of, fingerprint
from tests.fault.table import Row

LIMIT = 600.0


class Kills:
    """Kill one run of a scenario, run it again, and compare with an undisturbed run."""

    def __init__(self, root: Path, seed: int, names: tuple[str, ...]) -> None:
        self.bench = Bench(root, all_of(names))
        self.seed = seed

    def __call__(self, number: int) -> tuple[str, str]:
        scenario = self.bench.scenarios[number % len(self.bench.scenarios)]
        undisturbed = self.bench.undisturbed(scenario)
        moment = random.Random(f"{self.seed}-{number}").random() * undisturbed.seconds
        while not self._killed(scenario, moment):
            moment /= 2  # it had ended
        between = fingerprint(self.bench.folder)
        if self.bench.wait(self.bench.start(scenario)):
            return "lost", f"the same command failed: {self.bench.error}"
        return undisturbed.judge(between, fingerprint(self.bench.folder))

    def _killed(self, scenario: Scenario, moment: float) -> bool:
        self.bench.reset(scenario)
        process = self.bench.start(scenario)
        time.sleep(moment)
        os.kill(process, signal.SIGKILL)  # not yet waited for, so the id is still its own
        return self.bench.wait(process) == -signal.SIGKILL


def run(
    count: int,
    budget: float,
    seed: int,
    *,
    processes: int = 2,
    names: tuple[str, ...] = (*STAGES, *TRAINING),
) -> list[Row]:
    """Kill up to `count` runs, as far as `budget` (seconds) allows."""

    def prepare(folder: Path) -> Kills:
        return Kills(folder, seed, names)

    return watchdog.run_in_folders(names, prepare, count, budget, LIMIT, processes=processes)
