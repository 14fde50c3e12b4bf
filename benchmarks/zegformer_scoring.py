"""Scoring with CLIP's image branch: the published way of working against ours, same result.

    python -m benchmarks.zegformer_scoring --photos 2 --empty 0.7

Images of scikit-image at the published test size pass a ZegFormer of published size once; its time
is reported separately, since both ways share it. The published way from there on, written from its
description: one image at a time; full-size stacks of all queries, masked and not; crops of all
three styles; every query encoded, empty masks too; score maps of all classes at the padded and at
the image's size.

Weights are random: neither time nor equality depends on them, except that a random network leaves
no mask empty. `--empty` is the share of queries whose mask is emptied; the gain depends most on it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.pictures import read_image
from data.synthetic import samples
from data.zegformer.transforms import test_image
from eval.zegformer import crops
from eval.zegformer import ensemble as gzs
from eval.zegformer.segmenter import Classes, Queries, Scoring, Segmenter
from models.clip.clip import CLIP, ImageTower
from models.clip.clip import PIXEL_MEAN as CLIP_MEAN
from models.clip.clip import PIXEL_STD as CLIP_STD
from models.clip.weights import to_half
from models.zegformer.network import ZegFormer, normalised_batch
from pipeline.commands import help_text


def pictures(count: int, short: int) -> list[Tensor]:
    """The first images of scikit-image, (3, H, W) uint8, resized as in the published test."""
    with tempfile.TemporaryDirectory() as folder:
        files = samples.write_photos(folder)[:count]
        views = [test_image(read_image(path), short=short, longest=4 * short) for path in files]
    return [torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1))) for view in views]


def emptied(photo: Queries, share: float) -> Queries:
    """The image's queries, with the masks of the first `share` of them emptied."""
    masks = photo.masks.clone()
    masks[: round(share * len(masks))] = -5
    return replace(photo, masks=masks)


T = TypeVar("T")


@torch.inference_mode()
def published(segmenter: Segmenter, given: Queries) -> Tensor:
    """The label map of one image, as the published program computes it."""
    clip, classes, scoring = segmenter.clip, segmenter.classes, segmenter.scoring
    assert clip is not None and classes.crop_text is not None
    image = normalised_batch([given.image], mean=CLIP_MEAN, std=CLIP_STD)[0]
    binary = given.masks.sigmoid() > 0.5
    boxes = crops.published_boxes(binary).tolist()
    masked = image[None] * binary[:, None]
    plain = image[None].repeat(len(binary), 1, 1, 1)
    side = clip.image_size
    styles = {
        "cropmask": [crops.crop(x, tuple(box), side) for x, box in zip(masked, boxes, strict=True)],
        "crop": [crops.crop(x, tuple(box), side) for x, box in zip(plain, boxes, strict=True)],
        "mask": F.interpolate(plain, size=(side, side), mode="bilinear")
        * (F.interpolate(given.masks[:, None], size=(side, side), mode="bilinear").sigmoid() > 0.5),
    }
    features = every_token(clip.visual, torch.stack(list(styles[scoring.style])))
    logits = gzs.image_logits(
        features, classes.crop_text, clip.logit_scale.exp(), given.logits[:, -1]
    )
    scores = gzs.class_scores(given.logits, logits, classes.unseen, mode=scoring.mode)
    maps = torch.einsum("qc,qhw->chw", scores, given.masks.sigmoid())
    maps = maps[:, : given.size[0], : given.size[1]]
    maps = F.interpolate(maps[None], size=given.size, mode="bilinear", align_corners=False)[0]
    return (maps - scoring.gamma * (~classes.unseen)[:, None, None].float()).argmax(0)


def every_token(tower: ImageTower, images: Tensor) -> Tensor:
    """CLIP's features with the last block computed for all tokens, of which one is used."""
    patches = tower.conv1(images).flatten(2).transpose(1, 2)
    start = tower.class_embedding.expand(len(images), 1, -1)
    x = tower.ln_pre(torch.cat([start, patches], dim=1) + tower.positional_embedding)
    x = tower.transformer(x, causal=False)
    return tower.ln_post(x[:, 0]) @ tower.proj


def ours(segmenter: Segmenter, photos: list[Queries]) -> list[Tensor]:
    """The label maps of several images."""
    scores = segmenter.scored(photos)
    return [segmenter.labels(s, photo.size) for s, photo in zip(scores, photos, strict=True)]


@click.command(help=help_text(__doc__))
@click.option("--photos", "count", default=2, show_default=True)
@click.option(
    "--short", default=640, show_default=True, help="Shorter side of the images, in pixels."
)
@click.option("--depth", default=101, show_default=True, help="Depth of the ResNet.")
@click.option("--queries", default=100, show_default=True)
@click.option("--classes", default=171, show_default=True)
@click.option("--empty", default=0.5, show_default=True, help="Share of empty masks.")
@click.option("--layers", default=12, show_default=True, help="Layers of CLIP's image encoder.")
@click.option("--half", is_flag=True, help="Ours with MODEL.CLIP_HALF, which changes the result.")
@click.option("--device", default="cpu", show_default=True)
def main(
    count: int,
    short: int,
    depth: int,
    queries: int,
    classes: int,
    empty: float,
    layers: int,
    half: bool,
    device: str,
) -> None:
    torch.manual_seed(0)
    text = F.normalize(torch.randn(2, classes, 512), dim=2)
    unseen = torch.arange(classes) >= classes - 15
    clip = CLIP(layers=layers, text_layers=1).eval().requires_grad_(False).to(device)
    model = ZegFormer(depth=depth, queries=queries).to(device)
    segmenter = Segmenter(model, Classes(text[0], unseen, text[1]), clip=clip, scoring=Scoring())
    shown = pictures(count, short)
    network, given = timed(lambda: [segmenter.queries(image) for image in shown], device)
    given = [emptied(photo, empty) for photo in given]
    before, one_by_one = timed(lambda: [published(segmenter, own) for own in given], device)
    if half:
        to_half(clip.visual, torch.bfloat16 if device == "cpu" else torch.float16)
    after, together = timed(lambda: ours(segmenter, given), device)
    pairs = zip(one_by_one, together, strict=True)
    same = sum(float((a == b).float().mean()) for a, b in pairs) / count
    click.echo(
        f"a photo: network {network / count:.2f} s, then published {before / count:.2f} s, ours "
        f"{after / count:.2f} s: {before / after:.2f} times as fast ("
        f"{(network + before) / (network + after):.2f} with the network), {100 * same:.4f} % of "
        "pixels the same"
    )


def timed(work: Callable[[], T], device: str) -> tuple[float, T]:
    """Seconds of some work, of the CPU or of the GPU, and its result."""

    def settled() -> float:
        if not device.startswith("cuda"):
            return time.process_time()  # not counting other processes
        torch.cuda.synchronize()
        return time.perf_counter()

    started = settled()
    result = work()
    return settled() - started, result


if __name__ == "__main__":
    main()
