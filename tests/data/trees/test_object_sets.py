import json

import numpy as np
import pytest
from PIL import Image

from data.errors import DatasetError
from data.trees.object_sets import from_labels, open_object_set, read_voc_boxes

XML = """<annotation><object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>12</xmax><ymax>13</ymax></bndbox></object>
<object><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>
</bndbox></object></annotation>"""
BOX = [[2, 3, 10, 10]]


def image(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8) if pixels is None else pixels).save(path)


def mask(value=255):
    pixels = np.zeros((20, 30), np.uint8)
    pixels[3:13, 2:12] = value
    return pixels


def test_voc_by_boxes_or_by_masks(tmp_path):
    for name in "ab":
        image(tmp_path / f"VOC2012/JPEGImages/{name}.jpg")
    (tmp_path / "VOC2012/Annotations").mkdir()
    (tmp_path / "VOC2012/Annotations/a.xml").write_text(XML)
    image(tmp_path / "VOC2012/SegmentationClass/b.png", mask(8))
    first, second = open_object_set(tmp_path)
    assert np.array_equal(first.truth().boxes, BOX) and not len(first.truth().masks)
    assert np.array_equal(second.truth().boxes, BOX)
    assert np.array_equal(second.truth().masks, [mask() > 0])
    (tmp_path / "list.txt").write_text("JPEGImages/b.jpg\n")
    assert [entry.id for entry in open_object_set(tmp_path, listed=tmp_path / "list.txt")] == ["b"]
    (tmp_path / "list.txt").write_text("c\n")
    with pytest.raises(DatasetError, match=r"list\.txt: 1 images are not in .* .first: c"):
        open_object_set(tmp_path, listed=tmp_path / "list.txt")
    with pytest.raises(DatasetError, match=r"no list val\.txt"):
        open_object_set(tmp_path, split="val")


@pytest.mark.parametrize(
    "content", ["", "<annotation>", "<a><object/></a>", XML.replace("12", "x")]
)
def test_damaged_annotations_are_named(tmp_path, content):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(DatasetError, match=r"a\.xml: not a VOC annotation"):
        read_voc_boxes(tmp_path / "a.xml")


def test_regions_of_a_label_map():
    labels = np.zeros((60, 60), np.uint8)
    labels[0:20, 0:20] = labels[40:60, 40:60] = 3
    labels[0:20, 30:50] = 5
    labels[59, 0] = 7  # a crumb
    labels[30:32] = 255
    truth = from_labels(labels)
    assert sorted(map(tuple, truth.boxes)) == [(0, 0, 20, 20), (30, 0, 20, 20), (40, 40, 20, 20)]
    assert [m.sum() for m in truth.masks] == [400, 400, 400]
    assert from_labels(np.zeros((5, 5), np.uint8)).masks.shape == (0, 5, 5)


def test_coco_without_crowds(tmp_path):
    image(tmp_path / "val2017/000000000009.jpg")
    square = [[2, 3, 12, 3, 12, 13, 2, 13]]
    annotations = [
        {"id": 1, "image_id": 9, "bbox": BOX[0], "segmentation": square, "iscrowd": 0},
        {"id": 2, "image_id": 9, "bbox": BOX[0], "segmentation": [], "iscrowd": 1},
    ]
    listed = [
        {"id": 9, "file_name": "000000000009.jpg", "height": 20, "width": 30},
        {"id": 10, "file_name": "10.jpg", "height": 20, "width": 30},
    ]
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations/instances_val2017.json"
    path.write_text(json.dumps({"images": listed, "annotations": annotations}))
    (only,) = open_object_set(tmp_path)
    assert np.array_equal(only.truth().boxes, BOX)
    assert np.array_equal(only.truth().masks, [mask() > 0])
    path.write_text("{}")
    with pytest.raises(DatasetError, match="not a COCO instance file"):
        open_object_set(tmp_path)
    with pytest.raises(DatasetError, match=r"expected one instances_train2017\.json"):
        open_object_set(tmp_path, split="train2017")


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "ground_truth_mask"),
        ("DUT-OMRON-image", "pixelwiseGT-new-PNG"),
        ("DUTS-TE-Image", "DUTS-TE-Mask"),
    ],
)
def test_saliency_sets(tmp_path, images, masks):
    image(tmp_path / images / "0001.jpg")
    image(tmp_path / images / "0002.jpg")
    image(tmp_path / masks / "0001.png", mask())
    (only,) = open_object_set(tmp_path)
    assert np.array_equal(only.truth().boxes, BOX)
    assert np.array_equal(only.truth().masks, [mask() > 0])


def test_cub_keeps_its_test_images(tmp_path):
    image(tmp_path / "images/001.A/x.jpg")
    image(tmp_path / "segmentations/001.A/x.png", mask())
    (tmp_path / "images.txt").write_text("1 001.A/x.jpg\n2 001.A/y.jpg\n")
    (tmp_path / "bounding_boxes.txt").write_text("1 2.0 3.0 10.0 10.0\n2 0 0 1 1\n")
    (tmp_path / "train_test_split.txt").write_text("1 0\n2 1\n")
    (only,) = open_object_set(tmp_path)
    assert only.id == "001.A/x" and np.array_equal(only.truth().boxes, BOX)
    assert len(only.truth().masks) == 1
    (tmp_path / "bounding_boxes.txt").write_text("1 2.0 3.0\n")
    with pytest.raises(DatasetError, match=r"bounding_boxes\.txt: expected 5 words"):
        open_object_set(tmp_path)


def test_no_known_layout(tmp_path):
    with pytest.raises(DatasetError, match=r"found none$"):
        open_object_set(tmp_path)
