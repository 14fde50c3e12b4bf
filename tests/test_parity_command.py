"""`python -m tests.parity DIR`: one line per case, and the exit status."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import skimage.data
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.ndimage import distance_transform_edt

from models.sazs.inverseform import InverseNet
from tests.parity.__main__ import families, main
from tests.parity.case import Case, largest_difference
from tests.parity.fill import fill, image

GOLDEN = Path(__file__).parent / "golden"


def run(*words):
    answer = CliRunner().invoke(main, [str(word) for word in words])
    return answer.exit_code, answer.output


def test_all_families_are_found():
    assert {"dino", "spectral", "edges", "splits", "clip", "sazs", "loss", "metric"} <= set(
        families()
    )


def test_a_family_that_agrees_passes(tmp_path):
    shutil.copy(GOLDEN / "edge_gt.npz", tmp_path)
    code, output = run(tmp_path, "--family", "edges")
    assert code == 0
    assert output.count(" pass\n") == len(output.splitlines()) - 1 == 6


def test_one_number_that_differs_fails(tmp_path):
    with np.load(GOLDEN / "edge_gt.npz") as golden:
        arrays = dict(golden)
    edge = arrays["edge"].copy()
    edge.flat[7] = 1 - edge.flat[7]
    np.savez(tmp_path / "edge_gt.npz", **{**arrays, "edge": edge})
    code, output = run(tmp_path, "--family", "edges")
    assert code == 1
    assert output.count(" FAIL\n") == 1


def test_a_folder_without_goldens_is_no_success(tmp_path):
    code, output = run(tmp_path)
    assert code == 1
    assert "no golden file" in output


def test_an_unknown_family_is_named(tmp_path):
    code, output = run(tmp_path, "--family", "dyno")
    assert code == 2
    assert "'dyno' is not one of" in output


@pytest.mark.parametrize("error", [float("nan"), float("inf"), 1.1])
def test_what_is_no_number_or_too_far_fails(error):
    assert not Case("a", error, 1.0).passed


def test_shapes_and_nans_must_agree():
    assert largest_difference(np.zeros(3), np.zeros(4)) == float("inf")
    assert np.isnan(largest_difference(np.array([np.nan]), np.array([0.0])))
    assert largest_difference(np.array([np.nan, 1]), np.array([np.nan, 3])) == 2


# ----- folders made from other images, seeds and classes: nothing is written into the code


def write(path, info, **arrays):
    np.savez(path, info=json.dumps({"case": path.stem, "seed": 0, **info}), **arrays)


def verdicts(output):
    return {line[:58].strip(): line.rsplit(maxsplit=1)[-1] for line in output.splitlines()[:-1]}


def nearest_by_distances(points, k):
    """Indices of the k nearest points by all distances; the caller's points have no ties."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def knn_colours(small):
    """The published relations, counted in a dense matrix one by one."""
    h, w = small.shape[:2]
    x, y = np.tile(np.linspace(0, 1, w), h), np.repeat(np.linspace(0, 1, h), w)
    W = np.zeros((h * w, h * w))
    for k, weight in ((20, 2.0), (10, 0.1)):
        points = np.column_stack([small.reshape(-1, 3), weight * x, weight * y])
        for i, row in enumerate(nearest_by_distances(points.astype(np.float32), k)):
            for j in row:
                W[i, j] += 1
                W[j, i] += 1
    return W


def spectrum(W, k):
    degree = W.sum(axis=1)
    values, vectors = scipy.linalg.eigh(np.diag(degree) - W, np.diag(degree))
    positive = (vectors > 0).mean(axis=0)
    vectors = vectors * np.where((positive > 0.5) & (positive < 1), -1, 1)
    return values[:k], vectors[:, :k].T, np.diff(values[: k + 1])


def toy_of(folder, photo, crop, grid, seed, *, stored=None):
    """A `spectral_toy` of another photograph, piece, grid and features, by the formulas alone."""
    image = np.asarray(getattr(skimage.data, photo)())
    rows, columns = crop
    piece = np.ascontiguousarray(image[slice(*rows), slice(*columns)])
    h, w = grid
    small = np.asarray(Image.fromarray(piece).resize((w, h), Image.Resampling.BILINEAR)) / 255
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, 24))
    region = (np.arange(h)[:, None] * 2 // h) * 2 + np.arange(w) * 2 // w
    features = (centres[region.ravel()] + 0.5 * rng.standard_normal((h * w, 24))).astype(np.float32)
    unit = features.astype(np.float64) / np.linalg.norm(features, axis=1, keepdims=True)
    positive = np.maximum(unit @ unit.T, 0)
    arrays = {"features": features}
    for name, W in (
        ("lam0", positive / positive.max()),
        ("knn3", positive / positive.max() + 3 * knn_colours(small)),
    ):
        values, vectors, gaps = spectrum(W, 4)
        arrays |= {f"{name}.val": values, f"{name}.vec": vectors, f"{name}.gap": gaps}
    info = {
        "seed": seed,
        "photo": stored or f"skimage.data.{photo}()",
        "crop": f"photo[{rows[0]}:{rows[1]}, {columns[0]}:{columns[1]}]",
        "grid": list(grid),
    }
    write(folder / "spectral_toy.npz", info, **arrays)
    return image


@pytest.mark.parametrize(
    ("photo", "crop", "grid", "seed"),
    [
        ("coffee", ((100, 340), (50, 330)), (9, 11), 3),
        ("astronaut", ((0, 200), (150, 400)), (8, 12), 7),
    ],
)
def test_another_photo_and_crop(tmp_path, photo, crop, grid, seed):
    toy_of(tmp_path, photo, crop, grid, seed)
    code, output = run(tmp_path, "--family", "spectral")
    assert code == 0, output
    assert verdicts(output)["spectral.npz"] == "skipped"
    assert verdicts(output)["spectral_toy knn3.val"] == "pass"
    assert sum(verdict == "pass" for verdict in verdicts(output).values()) == 10


def test_a_photo_stored_in_the_folder(tmp_path):
    image = toy_of(tmp_path, "coffee", ((0, 90), (0, 120)), (8, 9), 1, stored="a.png")
    code, output = run(tmp_path, "--family", "spectral")
    assert code == 1
    assert "a.png (not available)" in output
    Image.fromarray(image).save(tmp_path / "a.png")
    code, output = run(tmp_path, "--family", "spectral")
    assert code == 0, output


def test_the_photo_is_that_of_the_file(tmp_path):
    toy_of(tmp_path, "coffee", ((0, 90), (0, 120)), (8, 9), 1, stored="skimage.data.chelsea()")
    code, output = run(tmp_path, "--family", "spectral")
    assert code == 1
    assert verdicts(output)["spectral_toy lam0.val"] == "pass"
    assert verdicts(output)["spectral_toy knn3.val"] == "FAIL"


def published_edges(mask, classes, radius):
    """Distances inside and outside of each class, framed by one pixel of nothing."""
    edges = np.zeros(mask.shape, bool)
    for label in range(classes):
        framed = np.pad(mask == label, 1)
        near = distance_transform_edt(framed) + distance_transform_edt(~framed)
        edges |= (near <= radius)[1:-1, 1:-1] & framed.any()
    return edges.astype(np.uint8)


def test_edges_of_another_label_map(tmp_path):
    rng = np.random.default_rng(11)
    mask = rng.choice([0, 3, 17, 20, 255], (9, 11)).astype(np.uint8).repeat(9, 0).repeat(8, 1)
    edge = published_edges(mask, 20, 3)
    write(
        tmp_path / "edge_gt.npz",
        {"radius": 3},
        mask=mask,
        edge=edge,
        edge_80=published_edges(mask, 80, 3),
        edge_small=edge[::8, ::8],
        edge_all_background=published_edges(np.zeros((12, 17), np.uint8), 20, 3),
    )
    code, output = run(tmp_path, "--family", "edges")
    assert code == 0, output
    assert verdicts(output)["edges/edge_all_void"] == "skipped"
    assert list(verdicts(output).values()).count("pass") == 4


def areas_by_histogram(prediction, truth, void, *, void_in_union):
    """Intersections and unions of background and foreground, as the published scripts count."""
    predicted = np.where(prediction, 1, 0)
    target = np.where(truth, 1, 0)
    kept = ~void
    inter = [np.sum((predicted == v) & (target == v) & kept) for v in (0, 1)]
    counted = predicted if void_in_union else predicted[kept]
    area = [np.sum(counted == v) for v in (0, 1)]
    union = [area[v] + np.sum((target == v) & kept) - inter[v] for v in (0, 1)]
    return np.array([inter, union])


def test_metric_of_other_classes(tmp_path):
    rng = np.random.default_rng(5)
    fold, n = [15, 16, 17, 18, 19], 7
    class_id = rng.choice(fold, n)
    mask = rng.choice([0, *(c + 1 for c in fold), 255], (n, 12, 15)).astype(np.uint8)
    prediction = rng.integers(0, 2, mask.shape).astype(np.uint8)
    sums, running, areas = np.zeros((20, 2, 2)), [], []
    for label, guess, c in zip(mask, prediction, class_id, strict=True):
        areas.append(
            areas_by_histogram(guess == 1, label == c + 1, label == 255, void_in_union=True)
        )
        sums[c] += areas[-1]
        iou = sums[fold, 0, 1] / np.maximum(sums[fold, 1, 1], 1)
        running.append(100 * iou.mean())
    whole = sums[fold].sum(axis=0)
    write(
        tmp_path / "metric.npz",
        {"class_ids": fold},
        mask=mask,
        pred=prediction,
        class_id=class_id,
        pascal_inter=np.array(areas)[:, 0],
        pascal_union=np.array(areas)[:, 1],
        pascal_running_miou=np.array(running),
        pascal_miou=np.array(running[-1]),
        pascal_class_iou=100 * iou,
        pascal_fb_iou=np.array(100 * np.mean(whole[0] / whole[1])),
    )
    code, output = run(tmp_path, "--family", "metric")
    assert code == 0, output
    assert list(verdicts(output).values()).count("pass") == 6
    assert list(verdicts(output).values()).count("skipped") == 12


def test_the_choice_before_stays_where_the_iou_is_0_by_0(tmp_path):
    """An image without its class that follows one whose mask won."""
    with np.load(GOLDEN / "fusion.npz") as golden:
        arrays = dict(golden)
    won = int(np.flatnonzero(arrays["mask_won"])[0])
    empty = int(np.flatnonzero(np.unpackbits(arrays["pred"], axis=1).sum(axis=1) == 0)[0])
    order = [won, empty, *(i for i in range(len(arrays["mask"])) if i not in (won, empty))]
    info = json.loads(str(arrays["info"]))
    per_image = ("mask", "class_id", "features", "eig_masks", "pred")
    plain, chosen, is_won = [], [], []
    for i in order:
        if i == empty:  # the counts and the choice of the image before
            plain, chosen, is_won = (x + x[-1:] for x in (plain, chosen, is_won))
        else:
            plain.append((arrays["plain_inter"][i], arrays["plain_union"][i]))
            chosen.append((arrays["inter"][i], arrays["union"][i]))
            is_won.append(arrays["mask_won"][i])
    assert is_won[:2] == [True, True]
    reordered = {key: arrays[key][order] for key in per_image}
    reordered |= {"text": arrays["text"], "mask_won": np.array(is_won)}
    for prefix, areas in (("plain_", plain), ("", chosen)):
        reordered[f"{prefix}inter"], reordered[f"{prefix}union"] = np.array(areas).swapaxes(0, 1)
    write(tmp_path / "fusion.npz", info, **reordered)
    code, output = run(tmp_path, "--family", "fusion")
    assert code == 0, output
    assert verdicts(output)["fusion mask_won"] == "pass"


def test_the_regressors_images_follow_the_seed(tmp_path):
    with np.load(GOLDEN / "loss.npz") as golden:
        arrays = dict(golden)
    info = {**json.loads(str(arrays["info"])), "seed": 5}
    regressor = fill(InverseNet(), 5).eval()
    a, b = (image(224, 224, seed, 3)[:, :1] for seed in (5, 6))
    with torch.no_grad():
        write(tmp_path / "loss.npz", info, net_out=regressor(a, b).numpy())
    code, output = run(tmp_path, "--family", "loss")
    assert code == 0, output
    assert verdicts(output)["loss net_out"] == "pass"


# ----- parts of a folder


def test_what_a_folder_does_not_hold_is_skipped_by_name(tmp_path):
    for name in ("edge_gt.npz", "metric.npz", "classes_voc.json"):
        shutil.copy(GOLDEN / name, tmp_path)
    code, output = run(tmp_path)
    assert code == 0, output
    found = verdicts(output)
    held = {"edge_gt.npz", "metric.npz", "classes_voc.json"}
    files = {file for family in families().values() for file in family.FILES}
    assert {name for name, verdict in found.items() if verdict == "skipped"} == files - held
    assert set(found.values()) == {"pass", "skipped"}


def test_every_golden_file_belongs_to_a_family():
    files = {file for family in families().values() for file in family.FILES}
    sidecars = {"clip_keys.json", "zegformer-model-keys.json", "zegformer-backbone-keys.json"}
    sidecars |= {"zegformer-backbone-weights-map.json", "dino_keys.json", "inversenet_keys.json"}
    sidecars |= {path.name for path in GOLDEN.glob("*_keys.json")}
    kept = {path.name for path in GOLDEN.iterdir() if path.suffix in (".npz", ".json")}
    assert files == kept - sidecars


@pytest.mark.parametrize("array", ["edge", "edge_all_void", "mask"])
def test_an_array_that_a_file_lacks_is_named(tmp_path, array):
    with np.load(GOLDEN / "edge_gt.npz") as golden:
        np.savez(tmp_path / "edge_gt.npz", **{k: golden[k] for k in golden if k != array})
    code, output = run(tmp_path, "--family", "edges")
    assert code == (1 if array == "mask" else 0)  # without the label map nothing is compared
    assert any(array in name and v == "skipped" for name, v in verdicts(output).items()), output
