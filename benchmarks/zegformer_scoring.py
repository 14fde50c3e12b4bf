"""Scoring with CLIP's image branch: the published way of working against ours, same result.

    python -m benchmarks.zegformer_scoring --photos 4 --empty 0.7

The published way, written from its description: one photo at a time; full-size stacks of all
queries, masked and not; crops of all three styles; every query encoded, empty masks too; score maps
of all classes at the padded and at the photo's size. `--empty` is the share of queries whose mask
is empty, which the gain depends on most.

Weights are random: neither time nor equality depends on them.
"""

from __future__ import annotations

import time

import click
import torch
from torch import Tensor
from torch.nn import functional as F

from eval import crops, gzs
from eval.zegformer import Classes, Queries, Scoring, Segmenter
from models.clip import CLIP
from models.clip import PIXEL_MEAN as CLIP_MEAN
from models.clip import PIXEL_STD as CLIP_STD
from models.zegformer import ZegFormer, normalised_batch


def photo(size: tuple[int, int], queries: int, classes: int, empty: float, seed: int) -> Queries:
    """A picture, and blocky query masks of which a share is empty."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
    padded = tuple(-(-n // 32) * 32 for n in size)
    coarse = torch.randn(1, queries, padded[0] // 32, padded[1] // 32, generator=generator)
    masks = F.interpolate(8 * coarse - 6, size=padded, mode="bilinear")[0]
    masks[: round(empty * queries)] = -5
    return Queries(image, torch.randn(queries, classes + 1, generator=generator) * 5, masks)


@torch.inference_mode()
def published(segmenter: Segmenter, given: Queries) -> Tensor:
    """The label map of one photo, made as the published program does."""
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
    features = clip.encode_image(torch.stack(list(styles[scoring.style])))
    logits = gzs.image_logits(
        features, classes.crop_text, clip.logit_scale.exp(), given.logits[:, -1]
    )
    scores = gzs.class_scores(given.logits, logits, classes.unseen, mode=scoring.mode)
    maps = torch.einsum("qc,qhw->chw", scores, given.masks.sigmoid())
    maps = maps[:, : given.size[0], : given.size[1]]
    maps = F.interpolate(maps[None], size=given.size, mode="bilinear", align_corners=False)[0]
    return (maps - scoring.gamma * (~classes.unseen)[:, None, None].float()).argmax(0)


def ours(segmenter: Segmenter, photos: list[Queries]) -> list[Tensor]:
    """The label maps of several photos."""
    found = segmenter.scored(photos)
    return [segmenter.labels(own, given.size) for own, given in zip(found, photos, strict=True)]


@click.command(help=__doc__)
@click.option("--photos", "count", default=4, show_default=True)
@click.option("--queries", default=100, show_default=True)
@click.option("--classes", default=171, show_default=True)
@click.option("--empty", default=0.5, show_default=True, help="Share of empty masks.")
@click.option("--height", default=480, show_default=True)
@click.option("--width", default=640, show_default=True)
@click.option("--layers", default=12, show_default=True, help="Of CLIP's image tower.")
@click.option("--device", default="cpu", show_default=True)
def main(
    count: int,
    queries: int,
    classes: int,
    empty: float,
    height: int,
    width: int,
    layers: int,
    device: str,
) -> None:
    torch.manual_seed(0)
    text = F.normalize(torch.randn(2, classes, 512), dim=2)
    unseen = torch.arange(classes) >= classes - 15
    clip = CLIP(layers=layers, text_layers=1).eval().requires_grad_(False).to(device)
    model = ZegFormer(depth=50).to(device)
    segmenter = Segmenter(model, Classes(text[0], unseen, text[1]), clip=clip, scoring=Scoring())
    given = [photo((height, width), queries, classes, empty, seed) for seed in range(count)]
    given = [Queries(*(x.to(device) for x in (g.image, g.logits, g.masks))) for g in given]
    started = time.perf_counter()
    one_by_one = [published(segmenter, own) for own in given]
    middle = time.perf_counter()
    together = ours(segmenter, given)
    end = time.perf_counter()
    pairs = zip(one_by_one, together, strict=True)
    same = sum(float((a == b).float().mean()) for a, b in pairs) / count
    click.echo(
        f"published {(middle - started) / count:.2f} s/photo, ours {(end - middle) / count:.2f} "
        f"s/photo, {(middle - started) / (end - middle):.1f} times as fast, "
        f"{100 * same:.3f} % of pixels the same"
    )


if __name__ == "__main__":
    main()
