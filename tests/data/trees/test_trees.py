"""Trees list every photo once, name what they leave aside, and say what is missing and where."""

import os
import time

import pytest

from data.datasets import open_tree
from data.errors import DatasetError
from data.trees.coco import CocoTree
from data.trees.folder import FolderTree
from data.trees.lists import read_ids


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def ids(tree):
    return [photo.id for photo in tree.photos()]


@pytest.fixture
def pascal(tmp_path):
    root = tmp_path / "VOC2012"
    touch(root / "JPEGImages", "b.jpg", "a.jpg", "c.JPEG", "a.png", "Thumbs.db", ".hidden.jpg")
    touch(root / "SegmentationClassAug", "a.png")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\nmissing\n\n")
    (lists / "trainval.txt").write_text("a\nc\n")
    (lists / "train.txt").write_text("c\n")
    (lists / "trainaug.txt").write_text("c\n")
    return tmp_path


def test_pascal_photos_problems_and_notes(pascal):
    tree = open_tree("pascal", pascal)
    root = pascal / "VOC2012"
    assert [(p.id, p.path, p.split) for p in tree.photos()] == [
        ("a", root / "JPEGImages" / "a.jpg", "val"),
        ("b", root / "JPEGImages" / "b.jpg", None),
        ("c", root / "JPEGImages" / "c.JPEG", "trainaug"),
    ]
    problems = dict(tree.problems())
    assert problems.keys() == {"a.png", "missing"}
    assert "same id as a.jpg" in problems["a.png"]
    assert "val.txt" in problems["missing"]
    assert "2 files (.hidden.jpg, Thumbs.db)" in tree.notes()[0]
    assert tree.mask_path(tree.photos()[0]) == root / "SegmentationClassAug" / "a.png"


def test_pascal_listed_only(pascal):
    touch(pascal / "VOC2012" / "SegmentationClassAug", "b.png")
    touch(pascal / "VOC2012" / "JPEGImages", "d.jpg")
    tree = open_tree("pascal", pascal, photos="listed")
    assert ids(tree) == ["a", "b", "c"]
    assert any("1 images have neither a mask nor a list" in note for note in tree.notes())


@pytest.mark.parametrize("place", ["VOC2012", "VOCdevkit/VOC2012", "."])
def test_pascal_places(tmp_path, place):
    touch(tmp_path / place / "JPEGImages", "a.jpg")
    tree = open_tree("pascal", tmp_path)
    assert ids(tree) == ["a"]
    assert tree.root == tmp_path / place


def test_pascal_check_names_place_and_source(tmp_path):
    findings = open_tree("pascal", tmp_path).check()
    photos = findings[0]
    assert photos.level == "missing" and photos.where == tmp_path / "VOC2012" / "JPEGImages"
    assert "VOCtrainval_11-May-2012.tar" in photos.how
    assert {finding.level for finding in findings} == {"missing"}
    line, source = str(photos).splitlines()
    assert line.startswith("missing  images") and line.endswith("JPEGImages")
    assert source.strip().startswith("-> VOCtrainval")


def test_pascal_check_of_a_subset(pascal):
    found = {finding.what: finding for finding in open_tree("pascal", pascal).check()}
    assert found["list val, 2 of 1449 published, a subset"].level == "warning"
    listed = next(text for text in found if text.startswith("images of listed ids"))
    assert "2 of 3 are missing (first: c, missing)" in listed
    assert any(text.startswith("masks of listed ids, 2 of 3") for text in found)


def test_lists_may_hold_paths(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("\ufeff/JPEGImages/2007_1.jpg /Masks/2007_1.png\r\nmy photo\r\n", "utf-8")
    assert read_ids(path) == ["2007_1", "my photo"]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"train\.txt"):
        read_ids(path)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2007_1", "2007_1"),
        ("my photo", "my photo"),
        ("2007.1", "2007.1"),
        ("2007_1.jpg", "2007_1"),
        ("2007.1.jpg", "2007.1"),
        ("JPEGImages/2007_1.JPEG", "2007_1"),
        ("/JPEGImages/2007_1.jpg /SegmentationClassAug/2007_1.png", "2007_1"),
        ("JPEGImages/2007_1.jpg\tSegmentationClassAug/2007_1.png", "2007_1"),
        ("a/my photo.jpg b/my photo.png", "my photo"),
        ("JPEGImages\\2007_1.jpg SegmentationClassAug\\2007_1.png", "2007_1"),
        ("JPEGImages/2007_1 Masks/2007_1", "2007_1"),
    ],
)
def test_a_line_of_a_list_names_an_image(tmp_path, line, expected):
    for before, after in (("", "\n"), ("\ufeff", "\r\n"), ("\n\n  ", "  \n\n"), ("", "")):
        (tmp_path / "val.txt").write_text(f"{before}{line}{after}", "utf-8", newline="")
        assert read_ids(tmp_path / "val.txt") == [expected]


@pytest.mark.parametrize(
    ("base", "year"), [("COCO2014", "2014"), ("COCO2017", "2017"), ("coco", "2017"), (".", "2017")]
)
def test_coco_names_of_both_years(tmp_path, base, year):
    touch(tmp_path / base / f"train{year}", "2.jpg")
    touch(tmp_path / base / f"val{year}", "1.jpg")
    tree = CocoTree(tmp_path)
    assert [(p.id, p.split) for p in tree.photos()] == [("1", f"val{year}"), ("2", f"train{year}")]
    assert tree.year == year
    masks = tmp_path / base / "annotations"
    assert tree.mask_path(tree.photos()[1]) == masks / f"train{year}" / "2.png"
    assert tree.instances_path(f"val{year}") == masks / f"instances_val{year}.json"


def test_coco_with_one_split_says_so(tmp_path):
    touch(tmp_path / "COCO2014" / "val2014", "COCO_val2014_000000000042.jpg")
    tree = open_tree("coco", tmp_path)
    assert ids(tree) == ["COCO_val2014_000000000042"]
    assert any("train2014 is missing" in note for note in tree.notes())
    levels = {finding.what: finding.level for finding in tree.check()}
    assert levels["images train2014"] == "missing"
    assert levels["images val2014, 1 of 40504 published, a subset"] == "warning"


def test_folder_ids_are_paths_and_never_collide(tmp_path):
    touch(tmp_path, "a/b.jpg", "a__b.png", "top.webp", "ü ñ.jpg", "a/deep/c.tif", ".git/x.png")
    tree = FolderTree(tmp_path)
    assert ids(tree) == ["a__b", "a__deep__c", "top", "ü ñ"]
    assert [(name, "same id" in reason) for name, reason in tree.problems()] == [("a/b.jpg", True)]


def test_folder_links(tmp_path):
    """Linked folders are followed, but not round a loop; a broken link is a problem."""
    touch(tmp_path / "elsewhere", "x.jpg")
    root = tmp_path / "root"
    touch(root, "a.jpg")
    (root / "more").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    (root / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    tree = open_tree("folder", root)
    assert ids(tree) == ["a", "more__x"]
    assert tree.problems() == [("gone.jpg", "is a link to a missing file")]


def test_a_name_that_is_no_text_is_a_problem(tmp_path):
    os.close(os.open(os.fsencode(tmp_path) + b"/bad\xff.jpg", os.O_CREAT))
    screenshot = "Screenshot at 10.00.00\u202fAM"  # as one system names them
    touch(tmp_path, "good.jpg", "line\nbreak.jpg", f"{screenshot}.png")
    tree = FolderTree(tmp_path)
    assert ids(tree) == [screenshot, "good"]
    assert len(tree.problems()) == 2
    for problem_id, _ in tree.problems():
        problem_id.encode()


@pytest.mark.parametrize("name", ["pascal", "coco", "folder"])
def test_missing_and_empty_folders_end_in_one_clear_line(tmp_path, name):
    with pytest.raises(DatasetError, match="no images") as caught:
        open_tree(name, tmp_path / "absent").photos()
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    for empty in ("VOC2012/JPEGImages", "COCO2014/val2014", "COCO2014/train2014"):
        (tmp_path / empty).mkdir(parents=True)
    with pytest.raises(DatasetError):
        open_tree(name, tmp_path).photos()
    assert any(finding.level == "missing" for finding in open_tree(name, tmp_path).check())


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="coco, folder, world, samples, found 'voc'"):
        open_tree("voc", tmp_path)
    with pytest.raises(ValueError, match="listed"):
        open_tree("coco", tmp_path, photos="listed")
    with pytest.raises(ValueError, match="some"):
        open_tree("pascal", tmp_path, photos="some")


def test_listing_scales(tmp_path):
    """COCO has 123,287 photos; an eighth of them must list in an eighth of a few seconds."""
    folder = tmp_path / "train2017"
    folder.mkdir()
    for number in range(15_000):
        os.close(os.open(folder / f"{number:012d}.jpg", os.O_CREAT))
    started = time.process_time()
    assert len(open_tree("coco", tmp_path).photos()) == 15_000
    assert time.process_time() - started < 0.6


def test_entries_that_are_no_files_are_problems_and_the_rest_goes_on(tmp_path):
    touch(tmp_path, "good.jpg", "below/good.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    tree = FolderTree(tmp_path)
    assert ids(tree) == ["below__good", "good"]
    reasons = dict(tree.problems())
    assert reasons["pipe.jpg"] == "is a pipe (FIFO), not a file"
    assert reasons["zero.jpg"] == "is a device, not a file"
    assert reasons["loop.jpg"].startswith("cannot be examined: ")
    assert reasons["gone.jpg"] == "is a link to a missing file"
    assert len(reasons) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="every folder is readable to root")
def test_a_folder_that_cannot_be_listed_is_a_problem(tmp_path):
    touch(tmp_path, "good.jpg", "locked/a.jpg")
    (tmp_path / "locked").chmod(0)
    try:
        tree = FolderTree(tmp_path)
        assert ids(tree) == ["good"]
        assert "cannot list" in dict(tree.problems())["locked"]
    finally:
        (tmp_path / "locked").chmod(0o700)
