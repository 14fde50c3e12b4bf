"""Image files with known outcomes: valid, unusual and broken."""

from pathlib import Path

import numpy as np
from PIL import Image


def scene(height=96, width=128, seed=0):
    """A textured (H, W, 3) uint8 picture of a disc on a ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    inside = (y - height / 2) ** 2 + (x - width / 3) ** 2 < (height / 4) ** 2
    picture = np.where(inside[..., None], (200, 60, 40), (40, 120, 90)).astype(float)
    picture += 30 * np.sin(x / 3)[..., None] * inside[..., None]
    return (picture + rng.normal(0, 8, picture.shape)).clip(0, 255).astype(np.uint8)


def write_readable(folder: Path) -> set[str]:
    """Pictures that a viewer shows; returns their ids."""
    picture = Image.fromarray(scene())
    grey16 = Image.fromarray((scene()[..., 0].astype(np.uint16) << 8) + 7)
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.save(folder / "plain.jpg")
    picture.convert("L").save(folder / "grey.jpg")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("RGBA").save(folder / "alpha.png")
    grey16.save(folder / "sixteen.png")
    picture.save(folder / "turned.jpg", exif=turned)
    picture.save(folder / "moving.gif", save_all=True, append_images=[picture.rotate(90)] * 2)
    picture.save(folder / "a name with spaces.jpg")
    picture.save(folder / "żółć 图.jpg")
    Image.new("RGB", (128, 96), (10, 200, 30)).save(folder / "one colour.png")
    Image.fromarray(scene(2_000, 12_000)).save(folder / "wide.jpg")
    return {path.stem for path in folder.iterdir()}


def write_broken(folder: Path) -> set[str]:
    """Files that no viewer shows whole, and pictures of too few patches; returns their ids."""
    whole = folder / "whole.jpg"
    Image.fromarray(scene()).save(whole, quality=95)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "truncated.jpg").write_bytes(whole.read_bytes()[:2000])
    (folder / "text.jpg").write_text("not a picture")
    whole.unlink()
    Image.new("RGB", (1, 1)).save(folder / "one pixel.png")
    Image.new("RGB", (1, 40)).save(folder / "one column.png")
    return {"empty", "truncated", "text", "one pixel", "one column"}
