"""The site: gallery and notebooks run, public names are documented, targets are described."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml

import eigenshape as es

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "docs" / "gallery").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_gallery_draws(hooks, script):
    figure = hooks.figure_of(script, width=192)
    figure.canvas.draw()
    pictures = [image.get_array() for axis in figure.axes for image in axis.images]
    bars = [bar for axis in figure.axes for bar in axis.patches]
    assert len(bars) >= 3 or any(np.ptp(np.asarray(picture)) > 0 for picture in pictures)
    plt.close(figure)


def test_a_gallery_page(hooks, tmp_path):
    script = tmp_path / "dots.py"
    script.write_text(
        '"""Dots\n\nOne dot.\n"""\n\nimport matplotlib.pyplot as plt\n\n\ndef main(width=9):\n'
        "    figure, axis = plt.subplots()\n    axis.plot([width], [1], '.')\n    return figure\n"
    )
    page = hooks.gallery_page(script)
    assert page["dots.md"].startswith(
        "# Dots\n\nOne dot.\n\n![Dots](dots.png)\n\n```python\nimport"
    )
    assert page["dots.png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(hooks, path):
    cells = hooks.run_notebook(path)
    assert sum(len(cell.pictures) for cell in cells) >= 1
    assert any(cell.text.strip() for cell in cells)


def test_notebooks_are_stripped():
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == [] and cell["execution_count"] is None, path.name


def test_a_cell_that_fails_is_an_error(hooks, tmp_path):
    cells = [{"cell_type": "code", "source": ["1 / 0"]}]
    (tmp_path / "x.ipynb").write_text(json.dumps({"cells": cells}))
    with pytest.raises(ZeroDivisionError):
        hooks.run_notebook(tmp_path / "x.ipynb")


def test_a_semicolon_hides_the_value_of_a_cell(hooks, tmp_path):
    cells = [{"cell_type": "code", "source": [text]} for text in ("6 * 7", "6 * 7;")]
    (tmp_path / "x.ipynb").write_text(json.dumps({"cells": cells}))
    assert [cell.text for cell in hooks.run_notebook(tmp_path / "x.ipynb")] == ["42", ""]


def test_public_names_are_documented(hooks):
    assert not hooks.undocumented(hooks.public_objects())
    page = hooks.reference()
    for name in es.__all__:
        assert name.startswith("__") or f"heading: es.{name}\n" in page + "\n", name
    # Inspecting a class would show the members that every class has, too.
    for block in page.split("::: ")[1:]:
        assert ("force_inspection" in block) == block.startswith("eigenshape."), block


def test_a_missing_docstring_is_found(hooks, monkeypatch):
    class Bare:
        def method(self): ...

        @property
        def value(self): ...

        @classmethod
        def make(cls): ...

    @dataclass
    class Record:
        field: int

    def function(): ...

    found = hooks.undocumented({"Bare": Bare, "Record": Record, "function": function})
    assert found == ["Bare", "Bare.make", "Bare.method", "Bare.value", "Record", "function"]
    monkeypatch.setattr(hooks, "public_objects", lambda: {"function": function})
    with pytest.raises(hooks.PluginError, match="function"):
        hooks.reference()


def test_every_page_is_in_the_navigation(hooks):
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r": (\S+\.md)$", text, re.MULTILINE))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    pages |= {f"gallery/{path.stem}.md" for path in SCRIPTS}
    pages |= {f"notebooks/{path.stem}.md" for path in NOTEBOOKS}
    assert named == pages | {"reference.md", *hooks.OUTSIDE.values()}


def test_citation_and_ci():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == es.__version__
    assert len(citation["references"]) == 4
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["check"]
    assert job["strategy"]["matrix"] == {"python": ["3.11", "3.12"], "target": ["test", "demo"]}
    assert job["steps"][-1]["run"].startswith("make ${{ matrix.target }} ")


@pytest.mark.workflow
def test_targets_are_described():
    command = [sys.executable, "-m", "snakemake", "--list"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rules = [line for line in found.stdout.splitlines() if line and "workflow" not in line]
    assert len(rules) > 30
    assert not [line for line in rules if not re.fullmatch(r"\S+ \(.+\)", line)]
    assert {"objects", "segments", "clusters", "names"} <= {line.split()[0] for line in rules}
