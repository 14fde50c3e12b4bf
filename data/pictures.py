"""Read and write images, label maps and masks.

`read_image` shows an image as a viewer does: EXIF orientation applied, transparency over white,
the first frame of an animation, sixteen bits scaled to eight. A file that cannot be shown in full
raises an `ImageError` with the reason. Colour profiles are not applied. The decoded pixels depend
on the file alone, not on the process or thread that reads it.
"""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from data.errors import ImageError
from data.files import FileStamp, atomic_path, open_regular, read_stamped

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm")
"""File name endings of images, the preferred first where two files have one stem."""

IGNORE = 255
"""Value of pixels in a label map that count neither in a loss nor in a score."""

MAX_PIXELS = 200_000_000
"""Largest image that is decoded, in pixels: 600 MB as RGB."""

MAX_BYTES = 2_000_000_000
"""Largest file of an image that is read."""

# Other formats of Pillow run programs (EPS) or take arbitrary bytes for an image.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
_TIFF_SIZE = (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, struct.error)
_pillow_settings = threading.Lock()


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB, upright.

    Raises
    ------
    ImageError
        The file is missing, empty, damaged, not an image, or has more than `max_pixels` pixels.
    """
    return read_image_stamped(path, max_pixels=max_pixels)[0]


def read_image_stamped(
    path: str | Path, *, max_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, FileStamp]:
    """As `read_image`, and the stamp of the bytes that were decoded."""
    content, stamp = _read(path)
    with _open(path, content, max_pixels) as image:
        return np.ascontiguousarray(_rgb(Path(path), _upright(image))), stamp


def upright_rgb(picture: Image.Image) -> np.ndarray:
    """A Pillow image as `read_image` would return it: (H, W, 3) uint8 RGB, upright.

    Raises
    ------
    ImageError
        Its file is truncated, or it has pixels that are not finite.
    """
    name = getattr(picture, "filename", "") or "image"
    try:
        return np.ascontiguousarray(_rgb(Path(name), _upright(picture)))
    except ImageError:
        raise
    except _DAMAGED as error:
        raise ImageError(name, f"cannot be decoded: {_reason(error)}") from error


def read_label(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a label map as (H, W) uint8, or uint16 where the file has sixteen bits.

    A palette image returns its indices, which are the class ids of PASCAL's PNGs.

    Raises
    ------
    ImageError
        As `read_image`; also for an image in colour or with transparency, which has no class ids.
    """
    content, _ = _read(path)
    with _open(path, content, max_pixels) as picture:
        values = np.array(picture)
        if picture.mode == "1":
            return values.astype(np.uint8)
        if picture.mode in ("L", "P"):
            return values
        if picture.mode.startswith("I") and values.min() >= 0 and values.max() <= 0xFFFF:
            return values.astype(np.uint16)
        raise ImageError(
            path,
            f"is not a label map: expected one channel of 8 or 16 bit class ids, found Pillow mode "
            f"{picture.mode}",
        )


def picture_size(path: str | Path) -> tuple[int, int]:
    """Height and width of the image as `read_image` returns it, from the file's header alone.

    Raises
    ------
    ImageError
        The header cannot be read; damage further on is not noticed.
    """
    with _open(path, None, None) as picture:
        width, height = picture.size
        # Releases of Pillow differ in whether the size of a TIFF is that before or after turning.
        if isinstance(picture, TiffImageFile):
            width, height = (picture.tag_v2[tag] for tag in _TIFF_SIZE)
        turned = _orientation(picture) in (5, 6, 7, 8)
        return (width, height) if turned else (height, width)


def orientation(path: str | Path) -> int:
    """EXIF orientation, 1 to 8; 1 (upright) where the file states none.

    Raises
    ------
    ImageError
        The header cannot be read.
    """
    with _open(path, None, None) as picture:
        stated = _orientation(picture)
    return stated if stated in range(1, 9) else 1


def write_png(path: str | Path, pixels: np.ndarray, *, durable: bool = True) -> None:
    """Write (H, W) uint8 or uint16, or (H, W, 3) uint8 RGB, as a PNG, whole or not at all."""
    with atomic_path(path, durable=durable) as temporary:
        # Level 1 takes half the time of the default and 1.5 times its bytes.
        Image.fromarray(pixels).save(temporary, "PNG", compress_level=1)


def _read(path: str | Path) -> tuple[io.BytesIO, FileStamp]:
    try:
        content, stamp = read_stamped(path, most=MAX_BYTES)
    except FileNotFoundError as error:
        raise ImageError(path, "no such file") from error
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise ImageError(path, "does not fit into memory") from error
    return io.BytesIO(content), stamp


@contextlib.contextmanager
def _open(
    path: str | Path, content: io.BytesIO | None, max_pixels: int | None
) -> Iterator[Image.Image]:
    """Open and, when `max_pixels` is given, decode; every failure becomes an `ImageError`.

    Without `content` the file is read as far as the header needs.
    """
    path = Path(path)
    try:
        with contextlib.ExitStack() as stack:
            source = content or stack.enter_context(open_regular(path))
            with _quiet_pillow():
                picture = stack.enter_context(Image.open(source, formats=_FORMATS))
            if max_pixels is not None:
                _check_size(path, picture, max_pixels)
                _check_sums(picture, content)
                # TIFFs are read on while decoding, with warnings; other formats decode unlocked.
                is_tiff = isinstance(picture, TiffImageFile)
                with _quiet_pillow() if is_tiff else contextlib.nullcontext():
                    picture.load()
            yield picture
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(path, "does not fit into memory") from error
    except UnidentifiedImageError as error:
        raise ImageError(path, _why_no_image(path)) from error
    except FileNotFoundError as error:
        raise ImageError(path, "no such file") from error
    except _DAMAGED as error:
        raise ImageError(path, f"cannot be decoded: {_reason(error)}") from error


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Turn off Pillow's warnings and size limit, which are settings of the whole process."""
    with _pillow_settings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(path: Path, picture: Image.Image, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise ImageError(
            path,
            f"is too large: {width} x {height} = {width * height / 1e6:.0f} megapixels, "
            f"the limit is {max_pixels / 1e6:.0f}",
        )


def _check_sums(picture: Image.Image, content: io.BytesIO | None) -> None:
    """Check the CRCs of a PNG, which decoding does not."""
    if picture.format != "PNG" or content is None:
        return
    with _quiet_pillow(), Image.open(io.BytesIO(content.getbuffer()), formats=("PNG",)) as again:
        again.verify()


def _why_no_image(path: Path) -> str:
    if path.stat().st_size == 0:
        return "the file is empty (0 bytes)"
    return "is not an image of a known format (JPEG, PNG, WebP, TIFF, BMP, GIF, PNM)"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none or the EXIF block is damaged."""
    with _quiet_pillow():
        try:
            return picture.getexif().get(ExifTags.Base.Orientation, 1)
        except _DAMAGED:
            return 1


def _upright(picture: Image.Image) -> Image.Image:
    if _orientation(picture) not in range(2, 9):
        return picture
    with _quiet_pillow():
        return ImageOps.exif_transpose(picture)


def _rgb(path: Path, picture: Image.Image) -> np.ndarray:
    if picture.mode[0] in "IF":
        return np.repeat(_eight_bits(path, np.asarray(picture))[..., None], 3, axis=2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _eight_bits(path: Path, values: np.ndarray) -> np.ndarray:
    """Grey values of more than eight bits, scaled to 0..255.

    Integers up to 65535 are sixteen-bit, floats up to 1 are fractions; any other range has no
    agreed white and is stretched from its smallest to its largest value.
    """
    if not np.isfinite(values).all():
        raise ImageError(path, "has pixels that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "iu" and low >= 0 and high <= 0xFFFF:
        low, high = 0.0, 65535.0
    elif values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scaled = (values.astype(np.float64) - low) * (255.0 / max(high - low, np.finfo(float).tiny))
    return np.rint(scaled).astype(np.uint8)
