"""Replaces SLURM's commands where there is no cluster: runs jobs at once.

Installed under the names sbatch, sacct, ... in a folder that is first in PATH. Each submission is
kept in `submitted.jsonl` beside it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(sys.argv[0]).parent
COMMANDS = ("sbatch", "srun", "sacct", "scontrol", "sinfo", "squeue", "scancel", "sacctmgr")


def submissions():
    log = HERE / "submitted.jsonl"
    return log.read_text().splitlines() if log.exists() else []


def sbatch(words):
    number = len(submissions()) + 1
    with (HERE / "submitted.jsonl").open("a") as log:
        log.write(json.dumps(words) + "\n")
    (wrapped,) = [word.removeprefix("--wrap=") for word in words if word.startswith("--wrap=")]
    environment = {**os.environ, "SLURM_JOB_ID": str(number)}
    with (HERE / f"job-{number}.log").open("w") as log:
        done = subprocess.run(
            ["sh", "-c", wrapped], env=environment, stdout=log, stderr=log, check=False
        )
    (HERE / f"state-{number}").write_text("FAILED" if done.returncode else "COMPLETED")
    print(number)  # noqa: T201


def srun(words):
    while words[0].startswith("-"):
        words = words[1:]
    sys.exit(subprocess.run(words, check=False).returncode)


def sacct(words):
    for number in range(1, len(submissions()) + 1):
        state = HERE / f"state-{number}"
        print(f"{number}|{state.read_text() if state.exists() else 'RUNNING'}")  # noqa: T201


def install(folder: Path) -> None:
    """Write the commands into `folder`."""
    for command in COMMANDS:
        path = folder / command
        path.write_text(f"#!{sys.executable}\n{Path(__file__).read_text()}")
        path.chmod(0o755)


if __name__ == "__main__":
    {"sbatch": sbatch, "srun": srun, "sacct": sacct}.get(
        Path(sys.argv[0]).name, lambda words: None
    )(sys.argv[1:])
