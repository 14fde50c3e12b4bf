import json

import numpy as np
import pytest

from data.coco_results import decode, encode, image_ids, read_results, write_images, write_results
from data.errors import DatasetError


def mask():
    result = np.zeros((20, 30), bool)
    result[3:9, 4:20] = True
    return result


def entry(number=7):
    return {
        "image_id": number,
        "file_name": "a.jpg",
        "category_id": 1,
        "bbox": [4, 3, 16, 6],
        "segmentation": encode(mask()),
        "score": 0.5,
    }


def test_pycocotools_reads_results_as_they_are(tmp_path):
    from pycocotools.coco import COCO

    write_images(tmp_path / "images.json", [(7, "a.jpg", (20, 30)), (8, "b.jpg", (5, 5))])
    write_results(tmp_path / "objects.json", [entry(), entry()])
    results = COCO(str(tmp_path / "images.json")).loadRes(str(tmp_path / "objects.json"))
    assert len(results.anns) == 2
    assert np.array_equal(results.annToMask(results.anns[1]), mask())
    assert results.anns[1]["bbox"] == [4, 3, 16, 6]


def test_the_same_bytes_and_an_empty_list(tmp_path):
    for name in "ab":
        write_results(tmp_path / name, iter([entry(), entry(9)]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    write_results(tmp_path / "none", [])
    assert read_results(tmp_path / "none") == []
    assert json.loads((tmp_path / "a").read_text()) == read_results(tmp_path / "a")


def test_every_kind_of_segmentation_is_decoded():
    compressed = encode(mask())
    plain = {"size": [20, 30], "counts": _counts(mask())}
    polygon = [[4, 3, 20, 3, 20, 9, 4, 9]]
    for segmentation in (compressed, plain, polygon):
        assert np.array_equal(decode(segmentation, (20, 30), "x"), mask())
    with pytest.raises(DatasetError, match=r"x: mask of 30 x 20 pixels for an image of 9 x 9"):
        decode(compressed, (9, 9), "x")
    for bad in ("nonsense", {"size": [20, 30]}, {"counts": "a"}, 7, None, [["a"]]):
        with pytest.raises(DatasetError, match="neither run lengths nor polygons"):
            decode(bad, (20, 30), "x")


def _counts(array):
    flat = array.ravel(order="F").astype(int)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return np.diff([0, *changes, flat.size]).tolist()


def test_numbers_of_images():
    assert image_ids(["000000000139", "000000000285"]) == {"000000000139": 139, "000000000285": 285}
    assert image_ids(["COCO_val2014_000000000042"]) == {"COCO_val2014_000000000042": 42}
    assert image_ids(["b", "a"]) == {"a": 1, "b": 2}
    assert image_ids(["000000000139", "x"]) == {"000000000139": 1, "x": 2}


def test_files_of_other_tools(tmp_path):
    sam = {"image": {"image_id": 4, "file_name": "sa_4.jpg"}, "annotations": [entry()]}
    del sam["annotations"][0]["image_id"], sam["annotations"][0]["file_name"]
    (tmp_path / "sam.json").write_text(json.dumps(sam))
    (found,) = read_results(tmp_path / "sam.json")
    assert found["image_id"] == 4 and found["file_name"] == "sa_4.jpg"
    for content in ("{", "7", '{"images": []}', "[7]", '[{"image_id": 1}]', '{"annotations": [1]}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(DatasetError, match=r"bad\.json"):
            read_results(tmp_path / "bad.json")
    with pytest.raises(DatasetError, match=r"no\.json"):
        read_results(tmp_path / "no.json")


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, float("nan"), 2, 3, 4]], "expected a polygon in the image of 36 x 24 pixels"),
        ([[1, 1, 1e12, -1e12, 20, 1e12]], "expected a polygon in the image of 36 x 24 pixels"),
        ({"size": [10**6, 10**6], "counts": "junk"}, "mask of 1000000 x 1000000 pixels for an"),
        ({"size": [24, 36], "counts": [5]}, "expected run lengths of 864 pixels, found 5"),
        ({"size": [24], "counts": [5]}, "neither run lengths nor polygons"),
        (None, "neither run lengths nor polygons"),
        ([], "neither run lengths nor polygons"),
    ],
)
def test_masks_that_cannot_be_drawn_are_refused_before_they_are(segmentation, message):
    with pytest.raises(DatasetError, match=f"^x: .*{message}"):
        decode(segmentation, (24, 36), "x")


def test_files_of_other_programs_with_a_mark_and_odd_ids(tmp_path):
    content = {"images": [{"id": [7], "file_name": "a.jpg"}], "annotations": []}
    (tmp_path / "c.json").write_text(json.dumps(content), encoding="utf-8-sig")
    assert read_results(tmp_path / "c.json") == []
