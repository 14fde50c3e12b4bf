"""MkDocs hooks: the pages that are made from code when the site is built.

- A gallery page per script of docs/gallery: its docstring, the figure that its `main()` returns,
  and its code.
- A page per notebook of docs/notebooks, with the output of each cell.
- reference.md: the docstrings of all public names.
- Pages that live outside docs/, such as CHANGELOG.md.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import inspect
import io
import json
import logging
import os
import re
import runpy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from PIL import Image

log = logging.getLogger("mkdocs.hooks.eigenshape")

DOCS = Path(__file__).parent
ROOT = DOCS.parent
OUTSIDE = {
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "models/sazs/words.md": "words.md",
}
"""Pages outside docs/, and their names on the site."""
CACHE = ROOT / "build" / "pages"
"""Pages that were made from the same code, by its digest."""
LARGEST_TEXT = 2000


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, name in OUTSIDE.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, name, content=_moved(text, Path(source).parent)))
    files.append(File.generated(config, "reference.md", content=reference()))
    for script in sorted((DOCS / "gallery").glob("*.py")):
        for name, content in _cached(gallery_page, script).items():
            files.append(File.generated(config, f"gallery/{name}", content=content))
    for path in sorted((DOCS / "notebooks").glob("*.ipynb")):
        for name, content in _cached(notebook_page, path).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links from docs/ to the pages outside lead to their copies on the site."""
    for source, name in OUTSIDE.items():
        markdown = markdown.replace(f"](../{source}", f"]({name}")
    return markdown


def _cached(make: Callable[[Path], dict[str, str | bytes]], source: Path) -> dict[str, bytes]:
    """What `make` returns, anew where source, this file, library or weights have changed."""
    code = (
        path
        for floor in ("data", "eigen", "models", "eval")
        for path in (ROOT / floor).rglob("*")
        if path.suffix in (".py", ".safetensors")
    )
    digest = hashlib.sha256()
    for path in (source, Path(__file__), *sorted(code)):
        digest.update(path.read_bytes())
    folder = CACHE / f"{source.stem}-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        log.info("running %s", source.relative_to(ROOT))
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as temporary:
            for name, content in make(source).items():
                data = content.encode() if isinstance(content, str) else content
                (Path(temporary) / name).write_bytes(data)
            Path(temporary).rename(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _moved(text: str, folder: Path) -> str:
    """The text of a page in `folder`, its links to docs/ relative to docs/ itself."""
    steps = "../" * len(folder.parts)
    for source, name in OUTSIDE.items():
        text = text.replace(f"]({steps}{source}", f"]({name}")
    return text.replace(f"]({steps}docs/", "](")


# --- reference


def public_objects() -> dict[str, Any]:
    """Public names of `eigenshape` that can have a docstring, and what they are."""
    es = importlib.import_module("eigenshape")
    return {name: getattr(es, name) for name in es.__all__ if not name.startswith("__")}


def undocumented(objects: dict[str, Any]) -> list[str]:
    """Names, and public methods and properties of classes, without a docstring of their own."""
    missing = {name for name, value in objects.items() if not _has_docstring(value)}
    for name, value in objects.items():
        for member, content in vars(value).items() if inspect.isclass(value) else ():
            is_code = inspect.isroutine(content) or isinstance(content, property)
            if is_code and not member.startswith("_") and not _has_docstring(content):
                missing.add(f"{name}.{member}")
    return sorted(missing)


def _has_docstring(value: Any) -> bool:
    text = vars(value).get("__doc__") if inspect.isclass(value) else inspect.getdoc(value)
    # A dataclass without a docstring is given its signature.
    return bool(text) and not text.startswith(f"{getattr(value, '__name__', '')}(")


def reference() -> str:
    """The page of public names, in the order functions, classes."""
    objects = public_objects()
    if missing := undocumented(objects):
        raise PluginError(f"public names without a docstring: {', '.join(missing)}")
    lines = [
        "# API",
        "",
        "All public names of `import eigenshape as es`, from their docstrings. "
        "[The library](api.md) shows them at work.",
    ]
    for title, wanted in (("Functions", inspect.isfunction), ("Classes", inspect.isclass)):
        lines += ["", f"## {title}", ""]
        for name, value in objects.items():
            if wanted(value):
                where = f"{value.__module__}.{value.__qualname__}"
                lines += [f"::: {where}", "    options:", f"      heading: es.{name}"]
                lines += [f"      toc_label: {name}"]
                if value.__module__.startswith("eigenshape."):
                    # Defaults as values, not as the names that they come from. Of a package with
                    # classes it would show their inherited members too.
                    lines += ["      force_inspection: true"]
                lines += [""]
    return "\n".join(lines)


# --- gallery


def figure_of(script: Path, **settings: Any) -> plt.Figure:
    """The figure that a script of the gallery draws; `settings` are passed to its `main`."""
    return runpy.run_path(str(script))["main"](**settings)


def gallery_page(script: Path) -> dict[str, str | bytes]:
    """The page of a script and its picture, by file name."""
    source = script.read_text("utf-8")
    tree = ast.parse(source)
    text = inspect.cleandoc(ast.get_docstring(tree) or "")
    code = "\n".join(source.splitlines()[tree.body[1].lineno - 1 :])
    title, _, body = text.partition("\n")
    picture = _png(figure_of(script))
    page = (
        f"# {title.rstrip('.')}\n{body}\n\n![{title}]({script.stem}.png)\n\n"
        f"```python\n{code}\n```\n"
    )
    return {f"{script.stem}.md": page, f"{script.stem}.png": picture}


def _png(figure: plt.Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return file.getvalue()


# --- notebooks


@dataclass
class Cell:
    """A cell of a notebook and, once it has run, its output."""

    kind: str
    source: str
    text: str = ""
    pictures: list[bytes] = field(default_factory=list)


def run_notebook(path: Path) -> list[Cell]:
    """Run the code cells of a notebook in order, in an empty working directory."""
    cells = [
        Cell(cell["cell_type"], "".join(cell["source"]))
        for cell in json.loads(path.read_text("utf-8"))["cells"]
    ]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for number, cell in enumerate(cells):
                if cell.kind == "code":
                    _run(cell, namespace, f"{path.name}, cell {number}")
        finally:
            os.chdir(before)
            plt.close("all")
    return cells


def _run(cell: Cell, namespace: dict[str, Any], name: str) -> None:
    """Run one cell; the value of its last expression is shown unless a ; follows, as usual."""
    plt.close("all")
    tree = ast.parse(cell.source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(tree, name, "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
            if value is not None and not cell.source.rstrip().endswith(";"):
                shown.write(repr(value))
    cell.text = shown.getvalue()
    cell.pictures = [_png(plt.figure(number)) for number in plt.get_fignums()]


def _is_wide(png: bytes) -> bool:
    """Whether a figure has several panels next to each other, as its proportions tell."""
    with Image.open(io.BytesIO(png)) as picture:
        return picture.width > 2 * picture.height


def notebook_page(path: Path) -> dict[str, str | bytes]:
    """The page of a notebook and its pictures, by file name."""
    parts, pictures = [], {}
    for cell in run_notebook(path):
        if cell.kind == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        if cell.text.strip():
            parts.append(f"```text\n{cell.text.rstrip()[:LARGEST_TEXT]}\n```")
        for content in cell.pictures:
            name = f"{path.stem}-{len(pictures) + 1}.png"
            pictures[name] = content
            shape = "" if _is_wide(content) else "{ .narrow }"
            parts.append(f"![Output of the cell above]({name}){shape}")
    heading, *rest = parts
    title = re.sub(r"\n*$", "", heading)
    link = f"[Download this notebook]({path.name}){{ download }}"
    return {f"{path.stem}.md": "\n\n".join([title, link, *rest]), **pictures}
