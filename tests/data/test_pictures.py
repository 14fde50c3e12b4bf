"""Every kind of picture is read as a viewer shows it, or refused with its reason."""

import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from data import pictures
from data.errors import ImageError
from data.files import sha256
from data.pictures import orientation, picture_size, read_image, read_image_stamped, read_label
from data.png import write_mask


@pytest.fixture
def photo():
    """A smooth (40, 60, 3) picture whose corners differ, so that any turn shows."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, 128 + 0 * x], axis=-1).astype(np.uint8)


def save(path, pixels, mode=None, **options):
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


def test_a_plain_picture_keeps_its_pixels(tmp_path, photo):
    path = save(tmp_path / "a.png", photo)
    assert np.array_equal(read_image(path), photo)
    assert read_image(path).dtype == np.uint8
    assert picture_size(path) == (40, 60)


# What a viewer must do to the stored pixels, per EXIF orientation.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path, photo, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    save(path, photo, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    shown = TURNS[orientation](photo)
    assert np.array_equal(read_image(path), shown)
    assert picture_size(path) == shown.shape[:2]


def test_damaged_exif_is_no_orientation(tmp_path, photo):
    path = save(tmp_path / "a.jpg", photo, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f broken")
    assert read_image(path).shape == (40, 60, 3)
    assert picture_size(path) == (40, 60)


def test_grey_palette_and_one_bit_become_rgb(tmp_path, photo):
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    read = read_image(save(tmp_path / "grey.png", photo, "L"))
    assert np.array_equal(read, np.repeat(grey[..., None], 3, axis=2))
    palette = Image.fromarray(photo).quantize(16)
    assert np.array_equal(
        read_image(save(tmp_path / "p.png", palette)), np.asarray(palette.convert("RGB"))
    )
    bits = grey > 100
    read = read_image(save(tmp_path / "1.png", Image.fromarray(bits)))
    assert np.array_equal(read, np.repeat(bits[..., None], 3, axis=2) * np.uint8(255))


def test_transparency_is_composited_over_white(tmp_path, photo):
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:20], alpha[20:30] = 0, 128
    read = read_image(save(tmp_path / "rgba.png", np.concatenate([photo, alpha], axis=-1)))
    assert (read[:20] == 255).all()
    assert np.array_equal(read[30:], photo[30:])
    half = (photo[20:30] * (128 / 255) + 255 * (127 / 255)).round()
    assert np.abs(read[20:30] - half).max() <= 1

    la = Image.merge("LA", [Image.fromarray(photo).convert("L"), Image.fromarray(alpha[..., 0])])
    read = read_image(save(tmp_path / "la.png", la))
    assert (read[:20] == 255).all() and (read[30:] < 255).all()


def test_transparent_palette_entry_is_white(tmp_path):
    indexed = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8))
    indexed = indexed.convert("P")
    indexed.putpalette([10, 20, 30, 200, 100, 50] + [0] * 762)
    path = save(tmp_path / "p.gif", indexed, transparency=0)
    assert read_image(path).tolist()[0] == [[255, 255, 255], [200, 100, 50]]


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 32768], [65278, 65535, 40000]], np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    for name, stored in {
        "little.png": values,
        "little.tif": values,
        "big.tif": Image.frombytes("I;16B", (3, 2), values.astype(">u2").tobytes()),
        "wide.tif": values.astype(np.int32),
    }.items():
        read = read_image(save(tmp_path / name, stored))
        assert np.array_equal(read, np.repeat(expected[..., None], 3, axis=2)), name
    portable = tmp_path / "a.pgm"
    portable.write_bytes(b"P5 3 2 65535\n" + values.astype(">u2").tobytes())
    assert np.array_equal(read_image(portable)[..., 0], expected)


def test_float_grey(tmp_path):
    fractions = np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)
    assert read_image(save(tmp_path / "f.tif", fractions))[..., 1].tolist() == [[0, 64], [128, 255]]
    wide = np.array([[-100.0, 0.0], [101.0, 300.0]], np.float32)
    assert read_image(save(tmp_path / "w.tif", wide))[..., 1].tolist() == [[0, 64], [128, 255]]
    bad = np.array([[np.nan, 1.0]], np.float32)
    with pytest.raises(ImageError, match="not finite"):
        read_image(save(tmp_path / "n.tif", bad))


def test_cmyk(tmp_path, photo):
    """Pillow stores CMYK JPEGs inverted, as Adobe does: red ink read straight would be cyan."""
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    for name in ("a.jpg", "a.tif"):
        read = read_image(save(tmp_path / name, red, "CMYK"))
        assert np.abs(read.astype(int) - red).max() <= 3, name


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for suffix, options in {"gif": {}, "webp": {"lossless": True}, "tif": {}, "png": {}}.items():
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        assert (read_image(path) == (255, 0, 0)).all(), suffix


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (500, 1, 3)])
def test_thin_pictures(tmp_path, shape):
    assert read_image(save(tmp_path / "a.png", np.full(shape, 7, np.uint8))).shape == shape


def test_a_12000_pixel_wide_picture_is_read(tmp_path):
    path = save(tmp_path / "wide.jpg", Image.new("L", (12_000, 40), 90))
    assert read_image(path).shape == (40, 12_000, 3)


@pytest.mark.parametrize("name", ["with space.png", "Zürich 図.png", "a'b\"c.png", "100%_[x].png"])
def test_awkward_names(tmp_path, photo, name):
    assert np.array_equal(read_image(save(tmp_path / name, photo)), photo)


def test_a_truncated_picture_is_an_error_not_a_half(tmp_path, photo):
    big = np.tile(photo, (5, 5, 1))
    for name, options in {
        "a.jpg": {},
        "progressive.jpg": {"progressive": True},
        "a.png": {},
        "a.webp": {},
        "a.bmp": {},
        "a.gif": {},
        "a.tif": {},
    }.items():
        path = save(tmp_path / name, big, **options)
        whole = path.read_bytes()
        for share in (0.1, 0.5, 0.95):
            path.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(ImageError) as caught:
                read_image(path)
            assert str(path) in str(caught.value)
            assert caught.value.reason


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "gif", "webp", "bmp"])
def test_damage_of_any_kind_is_a_picture_error(tmp_path, photo, suffix):
    """Bytes changed at random: a picture or a `ImageError`, and no warning."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = save(tmp_path / f"a.{suffix}", photo, exif=exif).read_bytes()
    path, refused = tmp_path / f"damaged.{suffix}", 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            content[rng.integers(min(len(content), 300))] = rng.integers(256)
        path.write_bytes(content)
        for read in (read_image, picture_size):
            try:
                read(path)
            except ImageError:
                refused += 1
    assert 0 < refused < 300


def test_reasons_are_plain(tmp_path):
    def reason(name, content=None):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name)
        return caught.value.reason

    assert reason("empty.jpg", b"") == "the file is empty (0 bytes)"
    assert "not an image" in reason("text.jpg", b"no picture at all\n" * 50)
    assert reason("absent.jpg") == "no such file"
    (tmp_path / "folder.jpg").mkdir()
    assert "found a folder" in reason("folder.jpg")
    # PostScript would be handed to another program.
    assert "not an image" in reason("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


def bomb(width, height):
    """A PNG header that promises more pixels than it has."""
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG")
    content = bytearray(file.getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = __import__("zlib").crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def test_a_decompression_bomb_is_refused_before_decoding(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(60_000, 60_000))
    with pytest.raises(ImageError, match=r"60000 x 60000 = 3600 megapixels, the limit is 200"):
        read_image(path)
    small = save(tmp_path / "small.png", np.zeros((30, 40), np.uint8))
    with pytest.raises(ImageError, match="too large"):
        read_image(small, max_pixels=1199)
    assert read_image(small, max_pixels=1200).shape == (30, 40, 3)


def test_pillows_own_limit_and_warnings_stay_out(tmp_path, monkeypatch, photo):
    path = save(tmp_path / "a.png", photo)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow alone would refuse this picture
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_image(path), photo)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_threads_read_the_same_bytes(tmp_path, photo):
    path = save(tmp_path / "a.jpg", np.tile(photo, (4, 4, 1)))
    alone = read_image(path)
    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(alone, other) for other in pool.map(read_image, [path] * 64))


def test_labels_keep_ids(tmp_path):
    ids = np.array([[0, 1, 20], [255, 7, 3]], np.uint8)
    palette = Image.fromarray(ids)
    palette.putpalette([i % 256 for i in range(768)])
    for name, picture in {"grey.png": Image.fromarray(ids), "palette.png": palette}.items():
        read = read_label(save(tmp_path / name, picture))
        assert np.array_equal(read, ids) and read.dtype == np.uint8, name
    wide = np.array([[0, 846], [65535, 300]], np.uint16)
    for name in ("wide.png", "wide.tif"):
        read = read_label(save(tmp_path / name, wide))
        assert np.array_equal(read, wide) and read.dtype == np.uint16, name


def test_a_colour_picture_is_no_label_map(tmp_path, photo):
    with pytest.raises(ImageError, match="is not a label map: expected one channel"):
        read_label(save(tmp_path / "a.png", photo))


def test_masks_round_trip_as_8_bit_grey(tmp_path):
    mask = np.random.default_rng(0).random((37, 53)) > 0.5
    write_mask(tmp_path / "m.png", mask)
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.mode == "L"
    assert np.array_equal(read_label(tmp_path / "m.png"), mask * 255)
    with pytest.raises(ValueError, match=r"expected \(H, W\) bool, found \(2, 2\) uint8"):
        write_mask(tmp_path / "n.png", np.zeros((2, 2), np.uint8))


def test_picture_error_survives_pickling(tmp_path):
    import pickle

    error = pickle.loads(pickle.dumps(ImageError(tmp_path / "a.jpg", "is broken")))
    assert (error.path, error.reason) == (tmp_path / "a.jpg", "is broken")


def test_no_frame_of_png_text_is_lost(tmp_path, photo):
    """A PNG with a large text chunk is a picture like any other."""
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 100_000, zip=True)
    assert np.array_equal(read_image(save(tmp_path / "t.png", photo, pnginfo=info)), photo)


def test_preferred_suffix_is_jpg():
    assert pictures.SUFFIXES[0] == ".jpg"


@pytest.mark.parametrize("read", [read_image, read_label])
def test_a_png_with_a_wrong_checksum_is_refused(tmp_path, read):
    """Decoding alone accepts most of these and shows other pixels."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 2, (40, 60), dtype=np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    data = whole.index(b"IDAT") + 4
    for place in rng.integers(data, whole.index(b"IEND") - 4, 100):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        (tmp_path / "b.png").write_bytes(damaged)
        with pytest.raises(ImageError, match=r"b.png: cannot be decoded"):
            read(tmp_path / "b.png")


def test_a_stamp_is_that_of_the_file(tmp_path):
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.png")
    image, stamp = read_image_stamped(tmp_path / "a.png")
    assert image.shape == (4, 6, 3)
    assert stamp.sha256 == sha256(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_image, read_label, picture_size, orientation])
@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_refused_without_being_read(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name, kind in {"pipe": "pipe", "endless": "device", "folder": "folder"}.items():
        with pytest.raises(ImageError, match=f"expected a regular file, found a {kind}"):
            read(tmp_path / f"{name}.png")


def test_a_file_of_a_terabyte_is_refused_without_being_read(tmp_path):
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageError, match="the limit is 2,000,000,000"):
        read_image(tmp_path / "sparse.png")
