"""docs/extending.md: each example becomes part of the software, and is used."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eigenshape as es
from eigen.extractors import contract
from eigen.store.maps import EigenMaps
from eval.sazs import fusion
from tests.pictures import scene

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("registries")

PAGE = (ROOT / "docs" / "extending.md").read_text()


def example(title):
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return code


def run(title):
    # A dataclass looks up its module.
    space = {"__name__": __name__}
    exec(compile(example(title), title, "exec"), space)
    return space


def test_an_extractor():
    run("An extractor")
    image = scene(48, 64)
    extractor = es.extractor("gradients")
    assert isinstance(extractor, contract.Extractor)
    pairs = es.eigenvectors(image, extractor, k=4)
    assert pairs.grid == (6, 8) and pairs.residual.max() < 1e-5
    assert es.ExtractorSpec(name="gradients").name == "gradients"
    with pytest.raises(es.EigenshapeError):
        es.extractor("gradients", weights="a.pth")


def test_a_solver():
    run("A solver")
    image = scene(64, 96)
    pairs = es.eigenvectors(image, "lowlevel8", k=4, solver="subspace")
    expected = es.eigenvectors(image, "lowlevel8", k=4)
    assert pairs.solver == "subspace" and pairs.residual.max() <= 1e-5
    np.testing.assert_allclose(pairs.eigenvalues, expected.eigenvalues, atol=1e-6)
    assert es.SolveSpec(solver="subspace").solver == "subspace"


def test_a_fusion_rule():
    run("A fusion rule")
    image = scene(48, 64)
    maps = EigenMaps.of_pairs(es.eigenvectors(image, "lowlevel8", k=5), image.shape[:2])
    margin = np.where(maps.masks[1], 1.0, -1.0).astype(np.float32)
    margin[20:30, 20:30] *= -1
    mask = fusion.method("majority")(margin, maps)
    assert mask.dtype == bool and mask.shape == image.shape[:2]
    truth = maps.masks[1]
    samples = [(margin, maps, truth, np.zeros_like(truth), 0)]
    tuned, score = fusion.tune("majority", samples, classes=1)
    assert type(tuned).__name__ == "Majority" and score > 50


@pytest.fixture
def checkout(tmp_path):
    """A checkout to which the data set of the example is added as the page says."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("data", "eigen", "eigenshape", "eval", "models", "pipeline", "train", "config"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_eigenshape_floors.py", "Snakefile"):
        shutil.copy(ROOT / name, root / name)
    (root / "data" / "trees" / "textures.py").write_text(example("A data set"))
    registry = root / "data" / "datasets.py"
    text = registry.read_text().replace("WORLD, SAMPLES)", "WORLD, SAMPLES, TEXTURES)")
    text = text.replace(
        "from data.trees.voc", "from data.trees.textures import TEXTURES\nfrom data.trees.voc"
    )
    assert text.count("TEXTURES") == 2
    registry.write_text(text)
    rng = np.random.default_rng(0)
    for split in ("trn", "val"):
        for number in range(2):
            folder = tmp_path / "sets" / "textures"
            for part in (split, f"{split}_labels"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{split}{number}.jpg")
            labels = np.full((32, 40), number + 1, np.uint8)
            Image.fromarray(labels).save(folder / f"{split}_labels" / f"{split}{number}.png")
    return root


def test_a_data_set(checkout, tmp_path):
    def pipeline(*words):
        return subprocess.run(
            [sys.executable, *words], cwd=checkout, capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        )  # fmt: skip

    roots = ("--datasets-root", tmp_path / "sets", "--results-root", tmp_path / "results")
    answer = pipeline("-m", "pipeline", "check-data", "textures", *roots[:2])
    assert answer.returncode == 0 and "4 images" in answer.stdout, answer.stderr
    answer = pipeline("-m", "pipeline", "manifest", "--dataset", "textures", *roots)
    assert answer.returncode == 0, answer.stderr
    assert "val1" in (tmp_path / "results" / "textures" / "manifest.csv").read_text()
    answer = pipeline("-m", "pipeline", "lists", "--dataset", "textures", *roots)
    assert answer.returncode == 0, answer.stderr
    assert '"benchmark": "textures"' in (tmp_path / "results/textures/lists.json").read_text()
    settings = (f"datasets_root={tmp_path}/sets", f"results_root={tmp_path}/results")
    answer = pipeline("-m", "snakemake", "-n", "--cores", "1", "textures", "--config", *settings)
    assert answer.returncode == 0 and "fused" in answer.stdout + answer.stderr, answer.stderr
