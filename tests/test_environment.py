"""environment.yml in an empty environment, and the pins that it shares with the lock."""

import os
import re
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "results", "datasets", "output", "*.egg-info", "golden", "build"
)


def test_pins_are_those_of_the_lock():
    lock = (ROOT / "requirements.lock").read_text()
    pins = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    assert pins == re.findall(r"^([a-z].*==.*?)(?: *\\)?$", lock, re.MULTILINE)


def test_the_jobs_environment_names_no_file():
    """Snakemake copies it away from the checkout."""
    environment = yaml.safe_load((ROOT / "pipeline" / "rules" / "jobs.yaml").read_text())
    assert all(isinstance(entry, str) for entry in environment["dependencies"])
    for rules in (ROOT / "pipeline" / "rules").glob("*.smk"):
        assert set(re.findall(r'conda:\s+"(.*?)"', rules.read_text())) <= {"jobs.yaml"}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A copy of the checkout, and an empty environment that may take packages from ours."""
    folder = tmp_path_factory.mktemp("environment")
    shutil.copytree(ROOT, folder / "checkout", ignore=NOT_SOURCE)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    ours = Path(sysconfig.get_paths()["purelib"])
    # Not by a .pth file: ours has an editable install of this project, which must not be found.
    for entry in ours.iterdir():
        place = site / entry.name
        if "eigenshape" in entry.name or re.match(r"pip(-|$)", entry.name):
            continue
        if place.exists():
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        place.symlink_to(entry)
    for old in site.glob("setuptools-*"):
        if not (ours / old.name).exists():
            shutil.rmtree(old)
    return folder / "checkout", python


def run(*words, cwd, python):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PATH": f"{python.parent}:{os.environ['PATH']}", "PIP_NO_INDEX": "1"}
    environment |= {"PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    answer = subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    return answer.stdout


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.parametrize("way", ["environment.yml", "jobs.post-deploy.sh", "none"])
def test_a_target_runs_from_that_environment(setting, tmp_path, way):
    checkout, python = setting
    if way == "environment.yml":
        # As conda does: the pip part as a requirements file in the folder of environment.yml.
        *_, pip = yaml.safe_load((checkout / way).read_text())["dependencies"]
        (checkout / "pip_part.txt").write_text("\n".join(pip["pip"]))
        run(python, "-m", "pip", "install", "-r", "pip_part.txt", cwd=checkout, python=python)
    elif way == "jobs.post-deploy.sh":
        run("bash", f"pipeline/rules/{way}", cwd=checkout, python=python)
    else:
        run(python, "-m", "pip", "uninstall", "-y", "eigenshape", cwd=checkout, python=python)
    if way != "none":
        place = run(
            python, "-c", "import eigenshape as e; print(e.__file__)", cwd=tmp_path, python=python
        )
        assert place.startswith(str(checkout))
        assert "fused" in run(python.parent / "eigenshape", "--help", cwd=tmp_path, python=python)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for n in range(2):
        image = Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8))
        image.save(tmp_path / "photos" / f"{n}.png")
    run(python, "-m", "snakemake", "--cores", 1, "folder", "--config",
        f"folder={tmp_path}/photos", f"results_root={tmp_path}/results", "extractor=lowlevel",
        cwd=checkout, python=python)  # fmt: skip
    assert (tmp_path / "results" / "folder" / "report.html").is_file()
    assert len(list((tmp_path / "results").rglob("*_k?.png"))) == 10
