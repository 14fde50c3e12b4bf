"""Imports next to other packages of the same names, and from an installed wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("data", "eigen", "models", "eval", "train", "pipeline")
USE = (
    "import numpy as np, eigenshape as es; image = np.arange(5760, dtype=np.uint32).astype('u1')\n"
    "print(es.eigenvectors(image.reshape(40, 48, 3), 'lowlevel8', k=2).vectors.shape)"
)


def python(script, cwd, path=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, env=environment, capture_output=True, text=True
    )


def package(folder, name):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("whose = 'theirs'\n")
    return folder / name


def module(folder, name):
    (folder / f"{name}.py").write_text("whose = 'theirs'\n")
    return folder / f"{name}.py"


@pytest.mark.parametrize("script", ["import eigen", "import eigenshape; eigenshape.eigenvectors"])
@pytest.mark.parametrize("make", [package, module])
def test_a_package_that_hides_ours_is_named(tmp_path, make, script):
    theirs = make(tmp_path, "data")
    answer = python(script, tmp_path)
    assert answer.returncode == 1
    line = answer.stderr.strip().splitlines()[-1]
    assert line.startswith("ImportError: eigenshape needs its own package 'data'")
    assert str(ROOT / "data") in line and str(theirs) in line and "python -P" in line


@pytest.mark.parametrize(
    ("ours", "hidden"),
    [("models", "eigen"), ("eval", "models"), ("train", "eval"), ("pipeline", "train")],
)
def test_every_package_checks_those_below_it(tmp_path, ours, hidden):
    theirs = package(tmp_path, hidden)
    answer = python(f"import {ours}", tmp_path)
    assert answer.returncode == 1
    assert f"another '{hidden}' comes first on sys.path: {theirs}" in answer.stderr


def test_what_is_not_needed_may_have_our_names(tmp_path):
    for name in ("models", "train", "eval", "pipeline"):
        package(tmp_path, name)
    answer = python(f"{USE}\nimport train; print(train.whose)", tmp_path)
    assert answer.stdout.splitlines() == ["(2, 5, 6)", "theirs"], answer.stderr


def test_a_folder_of_files_hides_nothing(tmp_path):
    for name in FLOORS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "image.jpg").touch()
    assert python(USE, tmp_path).stdout.split("\n")[0] == "(2, 5, 6)"


def test_a_folder_without_ours_anywhere_is_named(tmp_path):
    """An import hook of an installer comes after folders; then a mere folder does hide ours."""
    (tmp_path / "data").mkdir()
    guard = shutil.copy(ROOT / "_eigenshape_floors.py", tmp_path)
    ours = ("site-packages", str(ROOT))  # an editable install is an entry of the path
    kept = f"[p for p in sys.path if not any(our in p for our in {ours})]"
    answer = python(f"import sys; sys.path[:] = {kept}\n"
                    "sys.path.insert(0, '')\nimport _eigenshape_floors as f; f._ROOT /= 'x'\n"
                    "f.require('data')", tmp_path, path=tmp_path)  # fmt: skip
    assert guard and f"comes first on sys.path: {tmp_path / 'data'}" in answer.stderr


def test_a_module_that_was_imported_already_is_named(tmp_path):
    answer = python("import sys, types; sys.modules['data'] = types.ModuleType('data')\n"
                    "import eigen", tmp_path)  # fmt: skip
    assert "comes first on sys.path and was imported already: a module without a file" in (
        answer.stderr
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built by setuptools as pip would, without isolation."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in (*FLOORS, "eigenshape"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "_eigenshape_floors.py"):
        shutil.copy(ROOT / name, source / name)
    build = "import sys; from setuptools import build_meta as b; print(b.build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", build, folder], cwd=source, check=True, capture_output=True
    )
    return next(folder.glob("eigenshape-*.whl"))


def test_a_wheel_has_all_that_the_packages_read(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    suffixes = {".py", ".json", ".yaml", ".html", ".css", ".js", ".typed"}
    expected = {
        str(path.relative_to(ROOT))
        for name in (*FLOORS, "eigenshape")
        for path in (ROOT / name).rglob("*")
        if path.suffix in suffixes
    }
    assert {f"{name}/py.typed" for name in (*FLOORS, "eigenshape")} <= expected
    assert expected <= inside
    assert not {name.split("/")[0] for name in inside} & {"tests", "benchmarks", "demo", "docs"}


def test_an_installed_wheel_works_away_from_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "data").mkdir()  # a folder of files hides nothing
    script = (
        f"{USE}\nimport data, data.text.vocabulary as v, eval.report.page, pipeline.cli, runpy\n"
        f"print(data.__file__, len(v.builtin('ade20k_full')), es.__version__)"
    )
    answer = python(script, tmp_path / "work", path=site)
    shape, place = answer.stdout.splitlines()
    assert (shape, place.split()[0]) == ("(2, 5, 6)", str(site / "data" / "__init__.py"))
    entry = next(site.glob("*.dist-info/entry_points.txt")).read_text()
    assert "eigenshape = pipeline.cli:main" in entry
