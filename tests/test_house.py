"""Rules of the code: imports run downwards, light modules stay light, examples run."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("data", "eigen", "models", "eval", "train", "pipeline")
MODULES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path):
    """First parts of what a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_run_downwards(path):
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    above = set(imported(path)) & {*FLOORS[floor + 1 :], "tests", "benchmarks"}
    assert not above, f"{dotted(path)} reaches up to {above}"


def test_light_modules_stay_light():
    script = (
        "import sys, data, eigen, pipeline, pipeline.plan, eval.report\n"
        "print([m for m in ('torch', 'timm', 'matplotlib', 'sklearn', 'dask') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name", [dotted(path) for path in MODULES if "\n    >>> " in path.read_text()]
)
def test_examples_in_docstrings_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
