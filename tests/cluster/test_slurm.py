"""The DAG through `profiles/slurm` on a real cluster of one node: `make test-cluster`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.cluster import slurm
from tests.pictures import scene

ROOT = Path(__file__).parents[2]
SLURM = (
    *("--workflow-profile", "profiles/slurm", "--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"),
    *("--latency-wait", "5"),
)
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        "EIGENSHAPE_CLUSTER" not in os.environ,
        reason="starts SLURM's daemons; run it by `make test-cluster`",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def running_cluster(tmp_path_factory):
    problem = slurm.missing()
    if problem:
        pytest.fail(problem)
    with slurm.cluster(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(8):
        Image.fromarray(scene(64, 96, number)).save(folder / f"{number:02d}.png")
    return folder


class Run:
    """A results folder and the command that makes it."""

    def __init__(self, photos: Path, results: Path):
        self.results = results / "folder"
        self.settings = [
            "--config",
            *(f"folder={photos}", f"results_root={results}", "extractor=lowlevel", "shard_size=4"),
        ]

    def start(self, *words: str, profile=SLURM) -> subprocess.Popen:
        command = [str(Path(sys.executable).parent / "snakemake"), *profile, *words, *self.settings]
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __call__(self, *words: str, profile=SLURM) -> str:
        process = self.start(*words, profile=profile)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return output

    def files(self) -> dict[str, bytes]:
        """Shards and masks, by name."""
        wanted = [*self.results.glob("eigenvectors/*.h5"), *self.results.glob("masks/*/*.png")]
        return {str(path.relative_to(self.results)): path.read_bytes() for path in wanted}


def submitted(output: str) -> list[str]:
    """Rules of the jobs that went to SLURM."""
    return sorted(re.findall(r"slurm_logs/rule_(\w+)/", output))


@pytest.fixture(scope="module")
def serial(photos, tmp_path_factory):
    """What one machine makes of the photos."""
    run = Run(photos, tmp_path_factory.mktemp("serial"))
    run("--cores", "1", "folder", profile=())
    return run.files()


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """A run of the whole DAG on the cluster."""
    run = Run(photos, tmp_path_factory.mktemp("whole"))
    return run, run("folder")


def test_the_whole_dag_equals_a_serial_run(whole, serial):
    run, output = whole
    assert run.files() == serial
    assert submitted(output).count("fused") == submitted(output).count("masks") == 2
    assert "8 images in, 8 done" in output


def test_one_stage_again(whole, serial):
    run, _ = whole
    output = run("folder", "--forcerun", "masks")
    assert submitted(output).count("masks") == 2
    assert "fused" not in submitted(output)
    assert run.files() == serial


def test_one_shard_by_name(whole, serial):
    run, _ = whole
    shard = run.results / "eigenvectors" / "shard-00001.h5"
    shard.unlink()
    output = run(str(shard))
    assert submitted(output) == ["fused"]
    assert f"eigenvectors/{shard.name}" in run.files()
    assert shard.read_bytes() == serial[f"eigenvectors/{shard.name}"]


def test_a_job_that_hangs_is_killed_by_its_time_limit_and_retried(photos, serial, tmp_path):
    run = Run(photos, tmp_path)
    process = run.start("folder", "--set-resources", "fused:runtime=attempt")
    victim = wait_for_job("fused", process, tmp_path)
    victim.send_signal(signal.SIGSTOP)  # from here on it makes no progress, like a dead file system
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    assert "TIMEOUT" in output
    assert submitted(output).count("fused") >= 3  # two shards, and at least one again
    assert run.files() == serial


def test_a_cancelled_run_is_continued(photos, serial, tmp_path):
    run = Run(photos, tmp_path)
    process = run.start("folder")
    wait_for_job("fused", process, tmp_path)
    process.kill()
    process.communicate()
    subprocess.run(["scancel", "--user", "root"], check=True)
    wait_until_idle()
    run("folder")
    assert run.files() == serial
    assert not list(run.results.rglob(".*.h5")), "a killed job's temporary is left"


def wait_for_job(stage: str, process: subprocess.Popen, results: Path) -> psutil.Process:
    """The process of a stage that the cluster runs for these results."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        for candidate in psutil.process_iter(["cmdline"]):
            words = candidate.info["cmdline"] or []
            if words[1:4] == ["-m", "pipeline", stage] and str(results) in words:
                return candidate
        time.sleep(0.02)
    raise TimeoutError(f"no job of {stage} was started within 5 minutes")


def wait_until_idle() -> None:
    while subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout.strip():
        time.sleep(0.5)
