"""The generated world: its layout, its compositional classes, and its bytes for a seed."""

import numpy as np
import pytest

from data.datasets import open_tree
from data.pictures import IGNORE, read_image, read_label
from data.sazs.splits import generate
from data.synthetic.scenes import COLOURS, SHAPES, TEXTURES, Thing, draw_scene
from data.synthetic.world import classes, photo_ids, text_embeddings, vocabulary, write
from data.trees.voc import PASCAL_5I as PASCAL


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write(root, photos=70, seed=3, workers=1)
    return root


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_bytes_depend_on_the_seed_alone(world, tmp_path):
    write(tmp_path / "again", photos=70, seed=3, workers=2)
    assert contents(tmp_path / "again") == contents(world)
    write(tmp_path / "other", photos=3, seed=4, workers=1)
    photo = "VOC2012/JPEGImages/world_000000.jpg"
    assert (tmp_path / "other" / photo).read_bytes() != (world / photo).read_bytes()


def test_a_smaller_world_leaves_nothing_of_a_larger_one(tmp_path):
    for root, counts in ((tmp_path / "one", (9, 7)), (tmp_path / "other", (7,))):
        for count in counts:
            write(root, photos=count, workers=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_every_word_of_a_held_out_class_is_in_each_other_fold():
    words = [set(thing.name.split()) for thing in classes()]
    assert len({thing.name for thing in classes()}) == PASCAL.classes
    assert len({(thing.colour, thing.shape) for thing in classes()}) == PASCAL.classes
    folds = [set().union(*(words[c] for c in PASCAL.class_ids(fold, "val"))) for fold in range(4)]
    everything = {*COLOURS, *TEXTURES, *SHAPES}
    assert all(fold == everything for fold in folds)


def test_vocabulary_of_a_fold(world):
    held_out = vocabulary(fold=2)
    assert held_out.unseen_ids == [10, 11, 12, 13, 14] and not vocabulary().unseen
    tree = open_tree("pascal", world)
    labels = read_label(tree.mask_path(tree.photos()[0]))
    ids = held_out.lookup()[labels]
    assert set(np.unique(ids)) == {int(v) - 1 for v in np.unique(labels) if 0 < v < 21} | {IGNORE}


def test_embeddings_compose():
    rows = text_embeddings(["striped red disc", "red disc striped", "red", "blue", "Others"])
    assert rows.dtype == np.float32 and rows.shape == (5, 512)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)
    assert rows[0] @ rows[1] > 1 - 1e-5
    assert rows[0] @ rows[2] > 0.45 and abs(rows[0] @ rows[3]) < 0.2
    names = [thing.name for thing in classes()]
    cosines = text_embeddings(names) @ text_embeddings(names).T
    assert (cosines - 2 * np.eye(20) < 0.8).all()
    assert np.array_equal(text_embeddings(names[3:4])[0], text_embeddings(names)[3])


def test_it_is_a_pascal_tree_with_balanced_folds(world):
    tree = open_tree("pascal", world)
    assert [photo.id for photo in tree.photos()] == photo_ids(70) and not tree.problems()
    assert [len(ids) for ids in tree.lists().values()] == [50, 20]
    assert {photo.split for photo in tree.photos()} == {"trainaug", "val"}
    lists = generate(tree, workers=1)
    assert not lists.problems
    for role, at_least in (("trn", 2), ("val", 1)):
        assert min(len(images) for images in lists.images[role].values()) >= at_least
    for photo in tree.photos()[:8]:
        labels = read_label(tree.mask_path(photo))
        assert read_image(photo.path).shape == (*labels.shape, 3)
        assert set(np.unique(labels)) <= {*range(21), IGNORE}
    names = (tree.root / "class_names.txt").read_text().splitlines()
    assert tuple(names) == vocabulary().names
    embeddings = np.load(tree.root / "text_embeddings.npy")
    assert np.array_equal(embeddings, text_embeddings(names))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_has_its_colour_and_the_ground_has_none(colour, shape):
    thing = Thing("dotted", colour, shape)
    image, labels = draw_scene([(7, thing)], (120, 160), np.random.default_rng(5))
    assert set(np.unique(labels)) == {0, 7, IGNORE}
    body = image[labels == 7].mean(0)
    ground = image[labels == 0].mean(0)
    nearest = min(COLOURS, key=lambda c: np.linalg.norm(body - np.mean(COLOURS[c], axis=0)))
    assert nearest == colour
    assert np.ptp(body) > 2 * np.ptp(ground)


def test_textures_differ_where_colour_and_shape_agree():
    pictures = [
        draw_scene([(1, Thing(texture, "red", "square"))], (120, 160), np.random.default_rng(2))
        for texture in TEXTURES
    ]
    assert all(np.array_equal(pictures[0][1], labels) for _, labels in pictures[1:])
    inside = pictures[0][1] == 1
    for i, (first, _) in enumerate(pictures):
        for second, _ in pictures[:i]:
            assert np.abs(first[inside].astype(int) - second[inside]).mean() > 20


def test_later_things_lie_in_front():
    crowd = [(label, Thing("striped", "red", "square")) for label in range(1, 7)]
    seen = np.zeros(7, int)
    for seed in range(20):
        _, labels = draw_scene(crowd, (60, 60), np.random.default_rng(seed))
        seen += np.bincount(labels[labels != IGNORE], minlength=7)
    assert seen[6] > 1.5 * seen[1]
