"""The public interface: its names, the images it takes, and its errors."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from PIL import Image

import eigenshape as es
from data.images import as_image
from eigen.graphs import cosine

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def test_public_names_exist_are_documented_and_typed():
    for name in es.__all__:
        value = getattr(es, name)
        assert name == "__version__" or inspect.getdoc(value), name
    (block,) = (
        node
        for node in ast.parse((ROOT / "eigenshape" / "__init__.py").read_text()).body
        if isinstance(node, ast.If)
    )
    typed = {alias.asname or alias.name for line in block.body for alias in line.names}
    assert typed | {"__version__"} == set(es.__all__) == set(dir(es))
    with pytest.raises(AttributeError, match="no attribute 'eigenvector'"):
        es.eigenvector  # noqa: B018


def test_importing_loads_nothing():
    script = "import sys, eigenshape; print({'numpy', 'torch', 'data', 'eigen'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert out.stdout.strip() == "set()"


def test_an_image_may_be_a_path_a_pillow_image_or_an_array(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "a.png")
    for form in (str(tmp_path / "a.png"), tmp_path / "a.png", Image.fromarray(image), image):
        assert np.array_equal(as_image(form), image)
    pairs = [es.eigenvectors(form, "lowlevel8", k=3) for form in (tmp_path / "a.png", image)]
    assert np.array_equal(pairs[0].vectors, pairs[1].vectors)


def test_grey_and_transparent_images_are_read_as_a_viewer_shows_them(tmp_path, image):
    grey, clear = image[..., 0], np.dstack([image, np.zeros(image.shape[:2], np.uint8)])
    for form in (grey, grey[..., None], Image.fromarray(grey)):
        assert np.array_equal(as_image(form), np.repeat(grey[..., None], 3, axis=2))
    for form in (clear, Image.fromarray(clear)):
        assert (as_image(form) == 255).all()
    half = np.dstack([image, np.full(image.shape[:2], 128, np.uint8)])
    Image.fromarray(half).save(tmp_path / "half.png")
    assert np.array_equal(as_image(half), as_image(tmp_path / "half.png"))


def test_a_pillow_image_is_turned_upright_like_its_file(tmp_path, image):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        assert np.array_equal(as_image(opened), as_image(tmp_path / "turned.png"))
    assert as_image(tmp_path / "turned.png").shape == (48, 40, 3)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (np.zeros((4, 5, 3), np.float32), "shape (4, 5, 3) and dtype float32, values 0 to 0"),
        (np.zeros((3, 4, 5), np.uint8), "shape (3, 4, 5) and dtype uint8"),
        (np.zeros((4, 5, 2), np.uint8), "shape (4, 5, 2)"),
        (np.zeros((1, 4, 5, 3), np.uint8), "shape (1, 4, 5, 3)"),
        (np.zeros(7, np.uint8), "shape (7,)"),
        (np.zeros((0, 5, 3), np.uint8), "shape (0, 5, 3)"),
        (np.array([[None]]), "dtype object"),
        ([[1, 2], [3, 4]], "found list"),
        (None, "found NoneType"),
        (b"bytes", "found bytes"),
        (3.5, "found float"),
    ],
)
def test_anything_else_is_refused_by_its_type_or_shape(given, named):
    with pytest.raises(es.EigenshapeError) as caught:
        es.eigenvectors(given, "lowlevel8")
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_a_torch_tensor_is_named():
    torch = pytest.importorskip("torch")
    with pytest.raises(es.EigenshapeError, match=r"torch.Tensor of shape \(3, 4, 5\)"):
        es.eigenvectors(torch.zeros(3, 4, 5), "lowlevel8")


def test_a_truncated_pillow_image_is_refused(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "a.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:900])
    with Image.open(tmp_path / "cut.jpg") as opened, pytest.raises(es.EigenshapeError, match="cut"):
        as_image(opened)


def test_an_extractor_is_built_once_and_again_when_its_weights_change(tmp_path):
    assert es.extractor("lowlevel8") is es.extractor("lowlevel8")
    assert es.extractor("lowlevel8") is not es.extractor("lowlevel")
    with pytest.raises(es.EigenshapeError, match=r"weights: .* no effect with extractor=lowlevel"):
        es.extractor("lowlevel", weights=tmp_path / "none.pth")


def test_features_and_affinities_give_the_pairs_of_the_image(image):
    extractor = es.extractor("lowlevel8")
    expected = es.eigenvectors(image, extractor, k=4)
    features, grid = extractor([image])[0], extractor.grid(image.shape[:2])
    W = cosine.dense(features).toarray()
    for source in (features, 3 * features, features.reshape(*grid, -1), W, sp.csr_array(W)):
        pairs = es.eigenvectors_of(source, grid, k=4, size=(40, 48))
        np.testing.assert_allclose(pairs.eigenvalues, expected.eigenvalues, atol=1e-6)
        assert pairs.grid == expected.grid and pairs.size == expected.size
    assert es.eigenvectors_of(W, grid, kind="affinity").size == grid


@pytest.mark.parametrize("kind", ["features", "affinity"])
def test_cells_lie_where_the_caller_places_them(kind):
    rows = np.random.default_rng(0).random((6, 3)).astype(np.float32)
    source = rows if kind == "features" else rows @ rows.T
    placed = es.Cells.of_patches(16)
    pairs = es.eigenvectors_of(source, (2, 3), 2, kind=kind, size=(40, 50), cells=placed)
    assert pairs.cells == placed
    pairs = es.eigenvectors_of(source, (2, 3), 2, kind=kind, size=(40, 60))
    assert pairs.cells == es.Cells(20.0, 20.0)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (np.ones((7, 3)), {}, r"expected shape \(6, d\) or \(2, 3, d\)"),
        (np.zeros((6, 3)), {}, r"non-zero.* row 0 \(node 0, 0\)"),
        (np.full((6, 3), np.nan), {}, "expected finite, non-zero rows"),
        (np.array([["a"]] * 6), {}, "expected an array of numbers"),
        (sp.csr_array((5, 5)), {}, r"affinity: expected shape \(6, 6\)"),
        (np.zeros((6, 6)), {}, "isolated|no neighbour|zero|row"),
        (np.ones((6, 6)), {"graph": es.GraphSpec()}, "graph: expected none with an affinity"),
        (np.ones((6, 6)), {"kind": "matrix"}, "kind: expected"),
        (np.eye(6, 2) + 1, {"graph": es.GraphSpec(kind="pixel")}, "expected the image"),
        ("features.npy", {}, "expected an array of numbers"),
    ],
)
def test_sources_that_form_no_graph_are_refused(source, options, message):
    with pytest.raises(es.EigenshapeError, match=message):
        es.eigenvectors_of(source, (2, 3), 2, **options)
