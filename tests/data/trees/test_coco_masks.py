"""Official instance annotations become label maps, the same for any number of workers."""

import json

import numpy as np
import pytest

from data.errors import DatasetError
from data.pictures import read_label
from data.trees.coco_masks import index_instances, paint, write_masks

CATEGORIES = [{"id": number, "name": f"c{number}"} for number in range(11, 91)]
LABEL_OF = {category["id"]: rank for rank, category in enumerate(CATEGORIES, start=1)}


def rectangle(category, top, left, bottom, right, **more):
    corners = [left, top, right, top, right, bottom, left, bottom]
    return {"category_id": category, "segmentation": [corners], **more}


def instances(path, photos, *, newline="\n"):
    """Write an official file; `photos` maps name to (height, width, annotations)."""
    images, annotations = [], []
    for number, (name, (height, width, shapes)) in enumerate(photos.items(), start=100):
        images.append({"file_name": name, "id": number, "height": height, "width": width})
        annotations += [{**shape, "image_id": number} for shape in shapes]
    document = {
        "info": {"description": 'a "quoted" [list] of ünïcode {text}'},
        "images": images,
        "annotations": annotations,
        "categories": CATEGORIES,
        "licenses": [],
    }
    text = json.dumps(document, ensure_ascii=False, indent=1).replace("\n", newline)
    path.write_bytes(text.encode())
    return path


def test_a_later_instance_lies_over_an_earlier_and_crowds_are_left_out():
    small, large = rectangle(11, 2, 2, 4, 4), rectangle(13, 0, 0, 9, 9)
    crowd = rectangle(12, 0, 0, 9, 9, iscrowd=1)
    labels = paint([large, small, crowd], LABEL_OF, 10, 12)
    assert labels.dtype == np.uint8 and labels.shape == (10, 12)
    expected = np.zeros((10, 12), np.uint8)
    expected[:10, :10] = 3
    expected[2:5, 2:5] = 1
    assert np.array_equal(labels, expected)
    assert (paint([small, large], LABEL_OF, 10, 12)[2:5, 2:5] == 3).all()


def test_polygons_of_one_instance_are_joined():
    """Two overlapping parts must not cut a hole where they overlap."""
    parts = [
        part["segmentation"][0] for part in (rectangle(11, 0, 0, 5, 5), rectangle(11, 3, 3, 8, 8))
    ]
    labels = paint([{"category_id": 11, "segmentation": parts}], LABEL_OF, 10, 10)
    assert (labels[3:6, 3:6] == 1).all() and labels.sum() == 36 + 36 - 9


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_index_points_at_each_annotation(tmp_path, newline):
    photos = {
        "ü b.jpg": (10, 12, [rectangle(20, 0, 0, 3, 3)]),
        "a.jpg": (8, 8, [rectangle(11, 1, 1, 2, 2), rectangle(12, 4, 4, 6, 6)]),
        "empty.jpg": (5, 5, []),
    }
    index = index_instances(instances(tmp_path / "i.json", photos, newline=newline))
    assert [(p.id, p.height, p.width, len(p.spans)) for p in index.photos] == [
        ("a", 8, 8, 2),
        ("empty", 5, 5, 0),
        ("ü b", 10, 12, 1),
    ]
    assert index.label_of == LABEL_OF
    content = index.path.read_bytes()
    start, end = index.photos[0].spans[1]
    assert json.loads(content[start:end])["category_id"] == 12


def test_masks_are_the_same_for_any_number_of_workers_and_runs_resume(tmp_path):
    rng = np.random.default_rng(3)
    photos = {}
    for number in range(150):
        shapes = [
            rectangle(int(rng.integers(11, 91)), *sorted(rng.integers(0, 20, 2)), 20, 25)
            for _ in range(3)
        ]
        photos[f"{number:04d}.jpg"] = (24, 30, shapes)
    photos["0149.jpg"] = (24, 30, [])
    shapes_as_json = json.loads(json.dumps(photos, default=int))
    index = index_instances(instances(tmp_path / "i.json", shapes_as_json))
    assert write_masks(index, tmp_path / "one", workers=1) == 150
    assert write_masks(index, tmp_path / "two", workers=2) == 150
    ones = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert ones == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert not read_label(tmp_path / "one" / "0149.png").any()

    (tmp_path / "one" / "0007.png").unlink()
    before = (tmp_path / "one" / "0008.png").stat().st_mtime_ns
    assert write_masks(index, tmp_path / "one", workers=1) == 1
    assert (tmp_path / "one" / "0007.png").read_bytes() == ones["0007.png"]
    assert (tmp_path / "one" / "0008.png").stat().st_mtime_ns == before


def test_damaged_annotation_files_are_named(tmp_path):
    path = instances(tmp_path / "i.json", {"a.jpg": (8, 8, [rectangle(11, 1, 1, 2, 2)])})
    whole = path.read_text()
    for damaged in (
        whole[: len(whole) // 2],
        whole.replace('"image_id": 100', '"image_id": 7'),
        whole.replace('"height"', '"depth"'),
        whole.replace('"a.jpg"', "7"),
        whole.replace('"id": 90', '"id": 89'),
        "[]",
        "",
        "no JSON",
    ):
        path.write_text(damaged)
        with pytest.raises(DatasetError, match=r"i\.json"):
            index_instances(path)
    with pytest.raises(DatasetError, match=r"absent\.json"):
        index_instances(tmp_path / "absent.json")


def test_an_annotation_that_cannot_be_painted_names_its_photo(tmp_path):
    for shape in ([[1, 2, 3]], [["x", "y"]], {"size": [8, 8], "counts": [64]}):
        photos = {"bad one.jpg": (8, 8, [{"category_id": 11, "segmentation": shape}])}
        index = index_instances(instances(tmp_path / "i.json", photos))
        with pytest.raises(DatasetError, match="image bad one"):
            write_masks(index, tmp_path / "masks", workers=1)
