"""README and docs: their code runs, the names they mention exist, and their command lines parse."""

from __future__ import annotations

import importlib
import itertools
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

import eigenshape as es
from eigen.store import shards
from pipeline import config as configuration
from tests.eval.test_trained import trained
from tests.pictures import scene

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
PACKAGES = "data|eigen|eigenshape|es|models|eval|train|pipeline|tests|benchmarks|demo"


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    image = scene(48, 64)
    Image.fromarray(image).save("cat.jpg")
    Path("names.txt").write_text("\n".join(f"class {c}" for c in range(20)))
    with shards.create(
        "results/pascal/eigenvectors/shard-00000.h5",
        config={}, software="test", extractor="lowlevel8", weights_sha256="",
    ) as append:  # fmt: skip
        append("2007_000033", es.eigenvectors(image, "lowlevel8", k=5))
    models = trained(tmp_path)
    models["sazs"].rename("model_best.safetensors")
    models["zegformer"].rename("model_final.safetensors")
    np.save("table.npy", np.random.default_rng(0).standard_normal((2, 512)))
    return {"image": image}


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda page: page.name)
@pytest.mark.usefixtures("registries")
def test_python_examples_run(page, workplace):
    """The blocks of a page in order, as one program."""
    exec(compile("\n".join(blocks(page)), page.name, "exec"), workplace)


def resolves(dotted: str) -> bool:
    first, *parts = dotted.split(".")
    value = importlib.import_module("eigenshape" if first == "es" else first)
    for n, part in enumerate(parts, start=1):
        try:
            value = getattr(value, part)
        except AttributeError:
            try:
                value = importlib.import_module(".".join([first, *parts[:n]]))
            except ImportError:
                return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_exist(page):
    text = page.read_text()
    quoted = [*re.findall(r"`([^`\n]+)`", text), *blocks(page)]
    pattern = rf"(?<![\w./-])(?:{PACKAGES})(?:\.[A-Za-z_]\w*)+(?!\w*[/(]?\.\w)"
    names = {name for code in quoted for name in re.findall(pattern, code)}
    # Files, and packages as they would be called if they were installed elsewhere.
    names -= {name for name in names if name.endswith((".py", ".yaml", ".md", ".data"))}
    assert not sorted(name for name in names if not resolves(name))


def command_lines(page: Path) -> list[str]:
    """Indented or fenced lines that call our programs, continued lines joined; inline ones too."""
    text = page.read_text().replace("\\\n", " ")
    starts = r"(?:python -m (?:pipeline|tests|benchmarks)\b|python (?:sazs|demo/\w+)\.py|"
    starts += r"\./?train_net\.py|python train_net\.py|eigenshape |snakemake |make )"
    lines = re.findall(rf"^(?:    )?((?:srun \S+ )?{starts}.*)$", text, re.MULTILINE)
    lines += re.findall(rf"`({starts}[^`\n]*)`", text)
    return sorted({re.sub(r"\s+# .*|^srun \S+ ", "", line) for line in lines})


# Commands on the data set that docs/extending.md adds are run by tests/test_extending.py.
LINES = [
    (page.name, line)
    for page in PAGES
    for line in command_lines(page)
    if not re.search(r"\btextures\b", line)
]


def command_of(words: list[str]) -> tuple[click.Command, list[str]] | None:
    """The click command that a line runs, and the words after it; None for other programs."""
    if words[0] == "eigenshape" or words[:3] == ["python", "-m", "pipeline"]:
        module, attribute, rest = "pipeline.cli", "main", words[1 if words[0][0] == "e" else 3 :]
    elif words[0] == "./train_net.py" or words[:2] == ["python", "train_net.py"]:
        module, attribute, rest = "train_net", "main", words[1 if words[0][0] == "." else 2 :]
    elif words[1] == "sazs.py":
        module, attribute, rest = "sazs", "main", words[2:]
    elif words[1].startswith("demo/"):
        module, attribute, rest = f"demo.{Path(words[1]).stem}", "main", words[2:]
    elif words[1] == "-m":
        module = "tests.fault.__main__" if words[2] == "tests.fault" else words[2]
        attribute, rest = "main", words[3:]
    else:
        return None
    command = getattr(importlib.import_module(module), attribute, None)
    if not isinstance(command, click.Command):
        return None
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def check_click(command: click.Command, words: list[str]) -> None:
    """Options exist and have their values; choices are among the known ones."""
    context = click.Context(command, info_name="docs")
    words = [word for word in words if word not in ("[...]", "...", "STAGE", "COMMAND")]
    if hasattr(command, "expand"):
        words = command.expand(words)
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    for parameter in command.params:
        value = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and value not in (None, ()):
            for one in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(one, str) and not one.isupper():
                    parameter.type.convert(one, parameter, context)
    takes_more = any(isinstance(parameter, click.Argument) for parameter in command.params)
    assert takes_more or not rest, f"unexpected {rest}"


def check_snakemake(words: list[str]) -> None:
    rules = (ROOT / "Snakefile").read_text()
    rules += "".join(path.read_text() for path in (ROOT / "pipeline" / "rules").glob("*.smk"))
    from data.datasets import DATASETS
    from pipeline import published
    from pipeline.plan import DISCOVERY

    known = {*re.findall(r"^rule (\w+):", rules, re.MULTILINE), *published.targets("results")}
    known |= {*(dataset.target for dataset in DATASETS.values()), *DISCOVERY}
    settings = [word.partition("=") for word in words if re.match(r"[a-z_]+=", word)]
    given = {("k" if key == "top_k" else key): text for key, _, text in settings}
    assert set(given) <= set(configuration.defaults()), given
    for before, word in itertools.pairwise(words):
        is_value = before.startswith("--") and before not in ("--config", "--")
        if not is_value and re.fullmatch(r"[a-z]\w*", word) and "=" not in word:
            assert word in known, f"no target {word}"


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{p}: {n[:60]}" for p, n in LINES])
def test_command_lines_parse(page, line):
    words = shlex.split(line)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "snakemake":
        check_snakemake(words)
    elif words[:3] == ["python", "-m", "tests.parity"]:
        assert importlib.util.find_spec("tests.parity.__main__")
    else:
        found = command_of(words)
        assert found is not None or words[2].startswith("benchmarks."), "no click command"
        if found is not None:
            check_click(*found)


def test_lines_were_found():
    """The patterns above match what the pages hold."""
    assert len(LINES) > 40
    assert sum(len(blocks(page)) for page in PAGES) >= 8
    for program in (
        "sazs.py train",
        "train_net.py",
        "demo/demo.py",
        "pipeline verify",
        "snakemake",
    ):
        assert any(program in line for _, line in LINES), program


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            known = "://" in target or (page.parent / target).exists() or is_made(page, target)
            assert known, f"{page.name}: {target}"


def is_made(page: Path, target: str) -> bool:
    """Is this a page that docs/hooks.py makes from a script, a notebook or docstrings?"""
    path = page.parent / target
    if path == ROOT / "docs" / "reference.md":
        return True
    sources = path.with_suffix(".py"), path.with_suffix(".ipynb")
    return path.suffix in (".md", ".png") and any(source.exists() for source in sources)


def test_names_that_do_not_exist_are_detected():
    assert not is_made(ROOT / "docs" / "index.md", "gallery/no-such-script.md")
    assert not resolves("eigen.no_such_module") and resolves("eigen.masks.masks")
    command, _ = command_of(["eigenshape", "verify"])
    with pytest.raises(click.NoSuchOption):
        check_click(command, ["x", "--no-such-option"])
    with pytest.raises(click.BadParameter):
        check_click(command_of(["eigenshape", "fused"])[0], ["--dataset", "none"])
    with pytest.raises(AssertionError, match="no target"):
        check_snakemake(["snakemake", "--cores", "8", "pascal_k6"])
