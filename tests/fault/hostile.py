"""Hostile input: names, links and kinds of files, and images, that no folder of photos should have.

Each case puts one hostile entry among good photos and runs every stage. The good photos must be
done, the hostile one done or in quarantine under a reason of one line, and nothing else made.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from eigen.store import shards
from pipeline.stages.index import read_quarantine
from tests.fault import material, watchdog
from tests.fault.rights import without_override
from tests.fault.table import Row
from tests.pictures import scene

LIMIT = 120.0
GOOD = 2

Make = Callable[[Path, random.Random], None]
"""Put one hostile entry into a folder."""


def _photo(path: Path) -> None:
    with path.open("wb") as file:
        Image.fromarray(scene(48, 64)).save(file, "JPEG")


def _long_name(folder: Path, rng: random.Random) -> None:
    length = rng.choice((200, 241, 242, 246, 247, 248, 251))
    _photo(folder / f"{'n' * length}.jpg"[:255])


def _wide_name(folder: Path, rng: random.Random) -> None:
    _photo(folder / f"{'é' * rng.choice((110, 121, 124, 125))}.jpg")


def _odd_name(folder: Path, rng: random.Random) -> None:
    letters = (
        *" '\"%$`;&|*?[]{}()<>!#~\\,=:@^",
        "\n",
        "\r",
        "\t",
        "\x1b",
        "\x7f",
        "\u2028",
        "é",
        "图",
    )
    name = "".join(rng.choice(letters) for _ in range(rng.randint(1, 12)))
    _photo(folder / f"x{name}.jpg")


def _snakemake_name(folder: Path, rng: random.Random) -> None:
    _photo(
        folder / f"{rng.choice(('{dataset}', '{shard}', '-rf', '--help', '%s', '$HOME', '..'))}.jpg"
    )


def _not_utf8(folder: Path, rng: random.Random) -> None:
    _photo(
        Path(
            os.fsdecode(os.fsencode(folder) + b"/\xff" + bytes([rng.randrange(128, 256)]) + b".jpg")
        )
    )


def _folder_not_utf8(folder: Path, rng: random.Random) -> None:
    below = Path(os.fsdecode(os.fsencode(folder) + b"/\xfe"))
    below.mkdir()
    _photo(below / "a.jpg")


def _loop(folder: Path, rng: random.Random) -> None:
    name = rng.choice(("loop.jpg", "loop", "loop.txt", ".loop"))
    (folder / name).symlink_to(name)


def _circle(folder: Path, rng: random.Random) -> None:
    (folder / "a.jpg").symlink_to("b.jpg")
    (folder / "b.jpg").symlink_to("a.jpg")


def _link_to_parent(folder: Path, rng: random.Random) -> None:
    (folder / rng.choice(("up", "up.jpg"))).symlink_to(folder)


def _dangling(folder: Path, rng: random.Random) -> None:
    (folder / "gone.jpg").symlink_to(folder / "nowhere" / "gone.jpg")


def _pipe(folder: Path, rng: random.Random) -> None:
    os.mkfifo(folder / "pipe.jpg")


def _socket(folder: Path, rng: random.Random) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(folder):
        made.bind("socket.jpg")


def _device(folder: Path, rng: random.Random) -> None:
    (folder / "device.jpg").symlink_to(rng.choice(("/dev/zero", "/dev/null", "/dev/stdin")))


def _folder(folder: Path, rng: random.Random) -> None:
    (folder / "folder.jpg").mkdir()
    if rng.random() < 0.5:
        _photo(folder / "folder.jpg" / "inside.jpg")


def _unreadable(folder: Path, rng: random.Random) -> None:
    _photo(folder / "locked.jpg")
    (folder / "locked.jpg").chmod(0)


def _unreadable_folder(folder: Path, rng: random.Random) -> None:
    (folder / "locked").mkdir()
    _photo(folder / "locked" / "a.jpg")
    (folder / "locked").chmod(0)


def _sparse(folder: Path, rng: random.Random) -> None:
    with (folder / "sparse.jpg").open("wb") as file:
        file.truncate(1 << 40)


def _same_id(folder: Path, rng: random.Random) -> None:
    _photo(folder / "a__b.jpg")
    (folder / "a").mkdir()
    _photo(folder / "a" / "b.jpg")
    _photo(folder / "a" / "b.JPEG")


def _bomb(folder: Path, rng: random.Random) -> None:
    """A PNG of a kilobyte that states a gigapixel, or holds one."""
    side = rng.choice((14_143, 30_000, 2**31 - 1))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1 << 20), 9)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    data = b"".join(
        struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))
        for kind, held in chunks
    )
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def _text_bomb(folder: Path, rng: random.Random) -> None:
    """A PNG whose compressed text is far larger than its file."""
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 20_000_000, zip=True)
    Image.fromarray(scene(48, 64)).save(folder / "text.png", pnginfo=text)


def _tiny(folder: Path, rng: random.Random) -> None:
    Image.new("RGB", (rng.choice((1, 2, 7)), rng.choice((1, 2, 500)))).save(folder / "tiny.png")


def _animated(folder: Path, rng: random.Random) -> None:
    picture = Image.fromarray(scene(48, 64))
    kind = rng.choice(("gif", "png", "webp", "tiff"))
    picture.save(folder / f"moving.{kind}", save_all=True, append_images=[picture.rotate(90)] * 2)


def _modes(folder: Path, rng: random.Random) -> None:
    modes = "CMYK.jpg CMYK.tif 1.png P.png LA.png RGBA.webp I;16.png I.tif F.tif YCbCr.tif LAB.tif"
    mode, kind = rng.choice(modes.split()).split(".")
    picture = Image.fromarray(scene(48, 64))
    if mode in ("I", "F", "I;16"):
        picture = picture.convert("L").convert("I" if mode != "F" else "F")
    if mode == "LAB":
        picture = Image.merge("LAB", picture.split())
    else:
        picture = picture.convert(mode)
    picture.save(folder / f"mode.{kind}")


def _exif(folder: Path, rng: random.Random) -> None:
    exif = Image.Exif()
    exif[0x0112] = rng.choice((0, 3, 6, 8, 9, 65535))
    exif[0x010E] = "x" * 60_000
    Image.fromarray(scene(48, 64)).save(folder / "exif.jpg", exif=exif)


def _bad_exif(folder: Path, rng: random.Random) -> None:
    block = b"Exif\0\0" + rng.randbytes(60_000)
    Image.fromarray(scene(48, 64)).save(folder / "exif.jpg", exif=block)


def _wrong_suffix(folder: Path, rng: random.Random) -> None:
    kind = rng.choice(("PNG", "GIF", "TIFF", "WEBP", "BMP"))
    with (folder / f"wrong.{rng.choice(('jpg', 'png', 'webp'))}").open("wb") as file:
        Image.fromarray(scene(48, 64)).save(file, kind)


_NOT_IMAGES = (
    *(b"", b"\0", b"GIF89a", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBP", b"<svg/>"),
    *(
        b"%!PS-Adobe-3.0",
        b"P6 1000000 1000000 255\n",
        b"\x89PNG\r\n\x1a\n",
        b"II*\0\xff\xff\xff\xff",
    ),
)


def _not_images(folder: Path, rng: random.Random) -> None:
    content = rng.choice(_NOT_IMAGES)
    (folder / f"text.{rng.choice(('jpg', 'png', 'tif', 'ppm', 'webp'))}").write_bytes(content)


def _truncated(folder: Path, rng: random.Random) -> None:
    _photo(folder / "cut.jpg")
    data = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: rng.randrange(len(data))])


def _not_finite(folder: Path, rng: random.Random) -> None:
    values = np.full((40, 40), rng.choice((np.nan, np.inf, 3e38)), np.float32)
    values[::2] = 0
    Image.fromarray(values).save(folder / "float.tif")


CASES: tuple[tuple[str, Make], ...] = (
    ("names at the limit of a folder", _long_name),
    ("names at the limit, two bytes a letter", _wide_name),
    ("names with quotes, newlines, signs", _odd_name),
    ("names that look like options or wildcards", _snakemake_name),
    ("names that are not UTF-8", _not_utf8),
    ("folders whose names are not UTF-8", _folder_not_utf8),
    ("a link to itself", _loop),
    ("links in a circle", _circle),
    ("a link to the folder it is in", _link_to_parent),
    ("a link to nothing", _dangling),
    ("a pipe", _pipe),
    ("a socket", _socket),
    ("a device", _device),
    ("a folder with an image's name", _folder),
    ("an unreadable file", _unreadable),
    ("an unreadable folder", _unreadable_folder),
    ("a sparse file of a terabyte", _sparse),
    ("several files of one id", _same_id),
    ("gigapixels in a kilobyte", _bomb),
    ("megabytes of compressed text", _text_bomb),
    ("images of few pixels", _tiny),
    ("animations", _animated),
    ("CMYK, palettes, 16 bit, float", _modes),
    ("large and odd EXIF", _exif),
    ("random EXIF", _bad_exif),
    ("suffix of another format", _wrong_suffix),
    ("no images at all", _not_images),
    ("truncated images", _truncated),
    ("pixels that are not finite", _not_finite),
)


class Stages:
    """Run all stages over a folder with a hostile entry, and judge what came of it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed

    def __call__(self, number: int) -> tuple[str, str]:
        name, make = CASES[number % len(CASES)]
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            photos = Path(folder) / "photos"
            material.write_photos(photos, GOOD)
            (photos / "broken.jpg").unlink()
            make(photos, random.Random(f"{self.seed}-{number}"))
            try:
                with without_override():
                    material.make_results(photos, Path(folder) / "results", shard_size=2)
                return _judged(Path(folder) / "results" / "folder", number)
            except Exception as error:
                return "obscure", f"case {number}, {name}: {type(error).__name__}: {error}"[:300]
            finally:
                _unlock(photos)


def _unlock(folder: Path) -> None:
    for path in folder.rglob("locked*"):
        path.chmod(0o700)


def _judged(results: Path, number: int) -> tuple[str, str]:
    with shards.open(results / "eigenvectors") as found:
        done = set(found)
    rows = read_quarantine(results / "quarantine.csv")
    if lost := {f"photo {n}é" for n in range(GOOD)} - done:
        return "lost", f"case {number}: {lost} not done"
    if both := done & {row.id for row in rows}:
        return "faked", f"case {number}: {both} both done and in quarantine"
    if bad := [row for row in rows if not row.reason or "\n" in row.reason or "\n" in row.id]:
        return "obscure", f"case {number}: {bad[0]}"
    masks = {path.name for path in (results / "masks" / "folder_k3").glob("[!.]*.png")}
    expected = {f"{id}_k{k}.png" for id in done for k in range(3)}
    if wrong := masks ^ expected:
        return "lost", f"case {number}: masks of images that were not done, or none: {wrong}"[:300]
    if dead := [path.name for path in results.rglob(".tmp-*")]:
        return "leftovers", f"case {number}: {dead[:3]}"
    return "", ""


def run(count: int, budget: float, seed: int, *, processes: int = 2) -> list[Row]:
    """Run up to `count` cases, as far as `budget` (seconds) allows."""
    rows = [Row(name) for name, _ in CASES]
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        root = Path(name)
        cases = watchdog.Cases(
            prepare=lambda slot: Stages(root, seed),
            count=count,
            deadline=time.monotonic() + budget,
            limit=LIMIT,
            notes=root / "notes",
        )
        watchdog.run(rows, cases, processes=processes)
    return rows
