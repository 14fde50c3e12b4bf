"""Drawings of objects, names, joint graphs and clusters."""

import numpy as np
import pytest

from data.errors import SettingError
from eigen.joint import joint_eigenvectors, joint_segments
from eigen.objects import ImageObject
from eigen.objects.find import box
from eval import figures, report
from eval.objects.cluster_pictures import (
    SIDE,
    Member,
    clusters_rgb,
    clusters_section,
    confusion_rgb,
    confusion_section,
    segment_crop,
)
from eval.objects.pictures import (
    joint_rgb,
    joint_section,
    joint_strip_rgb,
    names_rgb,
    names_section,
    objects_rgb,
    objects_section,
)
from tests.eigen.objects.scenes import two_blobs

IMAGE, DISC, SQUARE = two_blobs()


@pytest.fixture(scope="module")
def joint():
    """An image, the same brightened, and their joint graph."""
    images = [IMAGE, np.minimum(IMAGE, 250) + np.uint8(5)]
    return images, joint_eigenvectors(images, "lowlevel", 4)


def test_objects_are_outlined_in_their_own_colours_with_boxes():
    objects = [ImageObject(mask, box(mask), 0.5) for mask in (DISC, SQUARE)]
    before = IMAGE.copy()
    drawn = objects_rgb(IMAGE, objects)
    assert np.array_equal(IMAGE, before)
    for one, colour in zip(objects, figures.OUTLINES, strict=False):
        x, y, width, height = one.box
        assert (drawn[y + height - 1, x + width // 2] == colour).all()
        assert (drawn[y + height - 1, x] == colour).all()  # a corner of the box
    assert np.array_equal(objects_rgb(IMAGE, []), IMAGE)
    page = report.render([objects_section([("a", IMAGE, objects), ("b", IMAGE, [])])], title="t")
    assert "2 objects" in page and "no object" in page


def test_pixels_without_a_name_stay_as_they_are():
    labels = np.where(DISC, 1, 255).astype(np.uint8)
    drawn = names_rgb(IMAGE, labels, ["cat", "sofa"])
    assert np.array_equal(drawn[~DISC], IMAGE[~DISC]) or (drawn[DISC] != IMAGE[DISC]).any()
    assert (drawn[0] == IMAGE[0]).all() and (drawn[DISC] != IMAGE[DISC]).any()
    section = names_section([("a", IMAGE, DISC.astype(np.uint8), labels)], ["cat", "sofa"])
    assert "<p>sofa</p>" in section.body


def test_joint_colours_agree_across_images(joint):
    images, found = joint
    first, second = joint_rgb(found)
    assert np.abs(first.astype(int) - second).mean() < 12
    assert np.linalg.norm(first[90, 80].astype(int) - first[10, 10]) > 60
    strip = joint_strip_rgb(images, found, joint_segments(found, 3), height=48)
    assert strip.shape == (3 * 48 + 2 * 4, 2 * 64 + 4, 3)
    section = joint_section(images, found, joint_segments(found, 3), labels=["one", "two"])
    assert section.body.count("<img") == 2 * (3 + 3)


def test_a_strip_of_other_images_is_refused(joint):
    images, found = joint
    with pytest.raises(SettingError, match="expected the 2 images of the joint graph"):
        joint_strip_rgb(images[:1], found, joint_segments(found, 3)[:1])
    with pytest.raises(SettingError, match="expected the 2 images of the joint graph"):
        joint_section([images[0], images[1][:100]], found, joint_segments(found, 3))


def test_a_page_of_clusters_has_a_card_of_each():
    crop = segment_crop(IMAGE, SQUARE)
    assert max(crop.shape[:2]) <= SIDE
    middle = crop[crop.shape[0] // 2, crop.shape[1] // 2]
    assert np.abs(middle.astype(int) - (30, 40, 150)).max() < 20
    assert crop[0, 0].min() > 180  # the surroundings fade
    members = [Member(0, "a", crop), Member(2, "b", crop), Member(2, "c", crop)]
    notes = {0: "sheep", 1: "", 2: "cow & calf"}
    section = clusters_section(members, notes)
    assert section.body.count("<article") == 3 and "cow &amp; calf" in section.body
    assert "No images" in section.body
    drawn = clusters_rgb(members, notes)
    assert drawn.shape[1] >= 2 * crop.shape[1]
    assert drawn.shape[0] == 3 * 28 + 2 * (crop.shape[0] + 8)


def test_a_confusion_is_darkest_where_a_class_lies():
    table = np.array([[90, 5, 5], [0, 0, 0], [5, 5, 90]])
    drawn = confusion_rgb(table, ["ground", "nothing", "cat"], [0, -1, 2])
    assert drawn.ndim == 3 and drawn.std() > 10
    assert not np.array_equal(drawn, confusion_rgb(table, ["ground", "x", "cat"], [2, -1, 0]))
    assert "<img" in confusion_section(table, ["ground", "x", "cat"], [0, -1, 2]).body
    with pytest.raises(SettingError, match="expected 3 names and 3 matches, found 2 and 3"):
        confusion_rgb(table, ["ground", "cat"], [0, -1, 2])
