"""Images of the generated world: textured objects on textured backgrounds, with their label map.

An object has a shape, a texture and a colour, each of which can be recognised from the image alone.
All random numbers come from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data.pictures import IGNORE

# Two tones each: of the body and of the pattern.
COLOURS = {
    "red": ((196, 38, 40), (247, 150, 132)),
    "yellow": ((231, 183, 24), (255, 240, 170)),
    "green": ((28, 128, 56), (150, 219, 132)),
    "blue": ((32, 74, 190), (150, 196, 250)),
    "purple": ((122, 40, 150), (219, 160, 236)),
}
TEXTURES = ("striped", "dotted", "checked", "marbled")
SHAPES = ("disc", "square", "triangle", "star", "cross")

# Dull, so that no background is taken for an object: sand, moss, slate, clay, fog, wood.
_GROUNDS = (
    ((190, 172, 140), (150, 132, 104)),
    ((104, 112, 84), (140, 146, 112)),
    ((92, 98, 108), (136, 142, 150)),
    ((140, 112, 96), (104, 82, 70)),
    ((176, 182, 186), (146, 150, 156)),
    ((120, 96, 72), (160, 132, 100)),
)


@dataclass(frozen=True, slots=True)
class Thing:
    """One class of objects; the three words in this order are its name."""

    texture: str
    colour: str
    shape: str

    @property
    def name(self) -> str:
        return f"{self.texture} {self.colour} {self.shape}"


def draw_scene(
    things: list[tuple[int, Thing]], size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw an image of (label, thing) pairs, the later ones in front.

    Parameters
    ----------
    size
        Height and width in pixels.

    Returns
    -------
    image
        (H, W, 3) uint8 RGB.
    labels
        (H, W) uint8: 0 background, the given labels, and 255 within two pixels of an outline.
    """
    canvas = _ground(size, rng)
    labels = np.zeros(size, np.uint8)
    for (label, thing), (centre, radius) in zip(
        things, _layout(len(things), size, rng), strict=True
    ):
        coverage = _draw_thing(canvas, thing, centre, radius, rng)
        labels[coverage > 0.5] = label
    light = 1 + 0.12 * _noise(size, 2, rng)[..., None]
    grain = rng.normal(0, 4, canvas.shape)
    image = np.clip(canvas * light + grain, 0, 255).astype(np.uint8)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    outline = cv2.dilate(labels, brush) != cv2.erode(labels, brush)
    labels[outline] = IGNORE
    return image, labels


def _noise(
    size: tuple[int, int], cells: int, rng: np.random.Generator, stretch: float = 1.0
) -> np.ndarray:
    """Smooth noise of about unit variance with `cells` cells along the longer side."""
    height, width = size
    cell = max(size) / cells
    shape = (max(2, round(height / cell * stretch)), max(2, round(width / cell)))
    coarse = rng.standard_normal(shape).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _ground(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """One background, or two that meet at a slanted line."""
    canvas = _surface(size, rng)
    if rng.random() < 0.6:
        height, width = size
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        slope, level = rng.uniform(-0.15, 0.15), rng.uniform(0.3, 0.7) * height
        above = np.clip(level + slope * (x - width / 2) - y, 0, 1)[..., None]
        canvas += above * (_surface(size, rng) - canvas)
    return canvas


def _surface(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    first, second = np.array(_GROUNDS[rng.integers(len(_GROUNDS))], np.float32)
    stretch = rng.choice([0.2, 1.0, 4.0])
    grain = sum(
        weight * _noise(size, cells, rng, stretch)
        for cells, weight in ((6, 0.5), (20, 0.35), (60, 0.3))
    )
    share = np.clip(0.5 + 0.45 * grain, 0, 1)[..., None]
    return first + share * (second - first)


def _layout(
    count: int, size: tuple[int, int], rng: np.random.Generator
) -> list[tuple[tuple[float, float], float]]:
    """Centre (x, y) and radius of each object: the farthest apart of a few random layouts."""
    height, width = size
    largest = min(size) * (0.36 if count == 1 else 0.28)
    best, best_gap = [], -np.inf
    for _ in range(12):
        radii = rng.uniform(0.7, 1.0, count) * largest
        margin = 0.9 * radii[:, None]
        centres = margin + rng.random((count, 2)) * (np.array([width, height]) - 2 * margin)
        gap = min(
            (
                np.hypot(*(centres[i] - centres[j])) - radii[i] - radii[j]
                for i in range(count)
                for j in range(i)
            ),
            default=0.0,
        )
        if gap > best_gap:
            best_gap = gap
            best = [
                ((float(x), float(y)), float(r)) for (x, y), r in zip(centres, radii, strict=True)
            ]
    return best


def _outline(shape: str) -> np.ndarray:
    """Corners (n, 2) of a shape of about unit radius and similar area."""
    if shape == "square":
        return 0.95 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    if shape == "cross":
        a, b = 0.4, 1.1
        arm = np.array([[-a, -b], [a, -b], [a, -a]])
        quarter_turn = np.array([[0, 1], [-1, 0]])
        return np.concatenate([arm @ np.linalg.matrix_power(quarter_turn, k) for k in range(4)])
    corners = {"disc": 72, "triangle": 3, "star": 10}[shape]
    angle = np.arange(corners) * (2 * np.pi / corners) - np.pi / 2
    reach = np.full(corners, 1.0 if shape == "disc" else 1.3)
    if shape == "star":
        reach[1::2] = 0.55
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach[:, None]


def _pattern(texture: str, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share of the pattern's tone, 0 to 1, at object coordinates (u, v) of about -1 to 1."""
    step = rng.uniform(0.32, 0.4)
    if texture == "striped":
        wave = np.sin(2 * np.pi * u / step)
    elif texture == "checked":
        wave = 2 * np.sin(np.pi * u / step) * np.sin(np.pi * v / step)
    elif texture == "dotted":
        du, dv = (np.mod(w / (1.15 * step), 1) - 0.5 for w in (u, v))
        wave = 8 * (0.3 - np.hypot(du, dv))
    else:
        swirl = _noise(u.shape, max(2, round(max(u.shape) / 40)), rng)
        wave = 1.5 * np.sin(2.2 * np.pi * (swirl + 0.5 * u))
    return np.clip(0.5 + 2 * wave, 0, 1)


def _draw_thing(
    canvas: np.ndarray,
    thing: Thing,
    centre: tuple[float, float],
    radius: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paint a thing and its shadow onto `canvas` (float RGB); return its coverage, 0 to 1."""
    height, width = canvas.shape[:2]
    turn, squeeze = rng.uniform(0, 2 * np.pi), rng.uniform(0.88, 1.12)
    cos, sin = np.cos(turn), np.sin(turn)
    to_picture = radius * np.array([[cos, -sin], [sin, cos]]) @ np.diag([squeeze, 1 / squeeze])
    corners = _outline(thing.shape) @ to_picture.T + centre
    mask = np.zeros((height, width), np.uint8)
    # Coordinates in 1/256 pixel, smoothed at the edge.
    cv2.fillPoly(mask, [np.rint(corners * 256).astype(np.int32)], 255, cv2.LINE_AA, 8)
    coverage = mask.astype(np.float32) / 255

    fallen = np.zeros_like(coverage)
    fallen[5:, 4:] = coverage[:-5, :-4]
    shadow = cv2.GaussianBlur(fallen, (0, 0), 4)
    canvas *= 1 - 0.4 * shadow[..., None]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = np.tensordot(
        np.linalg.inv(to_picture), np.stack([x - centre[0], y - centre[1]]), axes=1
    ).astype(np.float32)
    body, tone = np.array(COLOURS[thing.colour], np.float32)
    painted = body + _pattern(thing.texture, u, v, rng)[..., None] * (tone - body)
    shade = np.clip(1 - 0.16 * (v * cos + u * sin), 0.75, 1.25) * rng.uniform(0.85, 1.05)
    canvas += coverage[..., None] * (painted * shade[..., None] - canvas)
    return coverage
