"""The registry of data sets, and where their masks are found."""

import pytest

from data.datasets import DATASETS, dataset, mask_folder
from data.errors import DatasetError
from data.text.vocabulary import builtin
from pipeline.layout import Layout


def test_records_agree_with_themselves():
    for name, record in DATASETS.items():
        assert record.name == name and record.images
        if record.benchmark is not None:
            assert record.benchmark.name == name
            assert len(builtin(record.vocabulary)) == record.benchmark.classes
    with pytest.raises(DatasetError, match="expected one of pascal, coco, folder"):
        dataset("voc")


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        ("VOC2012/JPEGImages", "pascal_k5"),
        ("VOCdevkit/VOC2012/JPEGImages", "pascal_k7"),
        ("COCO2014/train2014", "coco_k5"),
        ("coco/val2017", "coco_k5"),
    ],
)
def test_masks_are_found_beside_the_tree_and_in_it(tmp_path, tree, name):
    (tmp_path / tree).mkdir(parents=True)
    dataset, k = name.split("_k")
    inside = Layout(str(tmp_path), "results", int(k)).masks(dataset)
    assert inside == (tmp_path / tree).parent / name
    beside = tmp_path / name
    assert mask_folder(beside) == beside and mask_folder(inside) == inside  # neither is there
    inside.mkdir()
    assert mask_folder(beside) == inside
    inside.rmdir()
    beside.mkdir()
    assert mask_folder(inside) == beside
    other = tmp_path / "voc_k5"
    assert mask_folder(other) == other
