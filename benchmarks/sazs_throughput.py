"""Images per second of SAZS, next to the published scripts' way of working.

The published way is written here from its description: the text tower runs for every sample, with
gradients on and over all 77 positions; the dead half of the ViT and its decoder are computed; the
shape loss, a constant, is computed too; a test keeps the graph, resizes each map with Pillow and
goes through its wrapped list item by item. Both ways use one network, one batch and one process.

    python -m benchmarks.sazs_throughput --arch vits16_384 --size 256 --batch 6
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import numpy as np
import torch
from PIL import Image
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from eval.sazs.metrics import count
from eval.sazs.segmenter import SazsSegmenter
from models.clip.clip import CLIP, CONTEXT_LENGTH
from models.sazs import networks as sazs
from models.sazs.dpt import DPTSegmenter
from models.sazs.inverseform import InverseNet
from train.sazs.losses import JointLoss

EPISODES, PAIRS, PHOTOS = 1000, 346, 345  # of PASCAL's fold 0
MASKS = 5
START, END = 49406, 49407  # ids around a text


class DeadParts(nn.Module):
    """What the published DPT computes without effect: blocks, branches, fusion decoder."""

    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads, qkv_bias=True) for _ in range(depth))
        self.readouts = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(3))
        self.entries = nn.ModuleList(
            nn.Conv2d(c, 512, 3, padding=1, bias=False) for c in (dim, 512, dim, dim)
        )
        self.fusions = nn.ModuleList(
            nn.Sequential(
                *(nn.Conv2d(512, 512, 3, padding=1, bias=False) for _ in range(units)),
                nn.Conv2d(512, 512, 1),
            )
            for units in (4, 4, 4, 2)
        )

    def forward(self, tokens: Tensor, grid: tuple[int, int], live: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        patches = tokens[:, 1:]
        joined = torch.cat([patches, tokens[:, :1].expand_as(patches)], dim=-1)
        maps = [F.gelu(r(joined)).transpose(1, 2).unflatten(2, grid) for r in self.readouts]
        h, w = grid
        sizes = [(4 * h, 4 * w), (2 * h, 2 * w), (h, w), (-(-h // 2), -(-w // 2))]
        levels = [maps[0], live, maps[1], maps[2]]
        levels = [F.interpolate(x, size=s) for x, s in zip(levels, sizes, strict=True)]
        path = torch.zeros(1)
        for level in (3, 2, 1, 0):
            x = self.entries[level](levels[level])
            x = x if level == 3 else x + F.interpolate(path, size=sizes[level], mode="bilinear")
            path = self.fusions[level](x)
        return path


class Bench:
    """A network, images, labels and texts for both ways."""

    def __init__(self, arch: str, size: int, batch: int, device: str) -> None:
        torch.manual_seed(0)
        self.device, self.size, self.batch = torch.device(device), size, batch
        self.model = sazs.build(arch, drop_rate=0.0).to(device)
        self.native = (size * 3 // 4, size)
        self.rows = torch.randn(21, 512, device=device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        self.clip = CLIP(
            image_size=32,
            patch=32,
            width=64,
            layers=1,  # the image tower is not used
        ).to(device)
        self.regressor = InverseNet().requires_grad_(False).to(device)
        self.dead: DeadParts | None = None
        if isinstance(self.model, DPTSegmenter):
            backbone = self.model.pretrained.model
            heads = backbone.blocks[0].attn.heads
            self.dead = DeadParts(backbone.embed_dim, len(backbone.blocks), heads).to(device)
        rng = np.random.default_rng(0)
        self.images = torch.from_numpy(rng.integers(0, 255, (batch, size, size, 3)).astype("u1"))
        cells = (batch, size // 8, size // 8)
        self.target = torch.from_numpy((rng.random(cells) > 0.8).astype("u1")).to(device)
        self.edges = torch.from_numpy((rng.random(cells) > 0.9).astype("u1"))[:, None].to(device)
        self.photo = rng.integers(0, 255, (*self.native, 3)).astype(np.uint8)
        self.truth = rng.random(self.native) > 0.7
        self.masks = rng.random((MASKS, *self.native)) > 0.5

    def encoded(self) -> Tensor:
        """Texts as published: encoded again, over the whole context, with gradients."""
        tokens = torch.full((2, CONTEXT_LENGTH), 320, device=self.device)
        tokens[:, 0], tokens[:, -1] = START, END
        return self.clip.encode_text(tokens).float()

    def published_forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        edge, features = self.model(images)
        if self.dead is not None:
            h, w = images.shape[2] // 16, images.shape[3] // 16
            dim = self.model.pretrained.model.embed_dim
            tokens = torch.zeros(len(images), 1 + h * w, dim, device=self.device)
            self.dead(tokens, (h, w), features)
        return edge, features

    def published_step(self) -> None:
        images = sazs.normalised(self.images.to(self.device))
        texts = torch.stack([self.encoded() for _ in range(self.batch)])
        edge, features = self.published_forward(images)
        log_prob = sazs.log_probabilities(features, texts)
        joint = JointLoss(mode="reference", shape="reference", regressor=self.regressor)
        self._update(joint(log_prob, edge, self.target, self.edges)["total"])

    def our_step(self) -> None:
        edge, features = self.model(sazs.normalised(self.images.to(self.device)))
        texts = self.rows[[0, 1]].expand(self.batch, -1, -1)
        log_prob = sazs.log_probabilities(features, texts)
        self._update(JointLoss()(log_prob, edge, self.target, self.edges)["total"])

    def _update(self, total: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def published_item(self) -> None:
        pixels = torch.from_numpy(self.photo)[None].to(self.device)
        images = F.interpolate(
            sazs.normalised(pixels), size=(self.size, self.size), mode="bilinear"
        )
        _, features = self.published_forward(images)
        log_prob = sazs.log_probabilities(features, self.encoded())[0].detach().cpu().numpy()
        size = self.native[::-1]
        channels = [
            np.array(Image.fromarray(c, "F").resize(size, Image.Resampling.BILINEAR))
            for c in log_prob
        ]
        prediction = np.argmax(channels, axis=0).astype(bool)
        void = np.zeros_like(self.truth)
        for mask in (prediction, *self.masks):
            count(mask, self.truth, void, counting="reference_pascal")

    def our_item(self) -> None:
        segmenter = SazsSegmenter(self.model, side=self.size)
        features = segmenter.features(self.photo)
        margin = segmenter.margins(features, self.rows[:2], self.native)[0]
        void = np.zeros_like(self.truth)
        for mask in (margin > 0, *self.masks):
            count(mask, self.truth, void, counting="reference_pascal")


def seconds(work: Callable[[], None], repeats: int) -> float:
    """Median time of one call, after an uncounted one."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


@click.command()
@click.option("--arch", default="vits16_384", show_default=True)
@click.option("--size", default=256, show_default=True)
@click.option("--batch", default=6, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(arch: str, size: int, batch: int, repeats: int, device: str) -> None:
    """Print images per second of both ways, and the ratio."""
    bench = Bench(arch, size, batch, device)
    bench.model.train()
    steps = [seconds(step, repeats) for step in (bench.published_step, bench.our_step)]
    bench.model.eval()
    items = [seconds(item, repeats) for item in (bench.published_item, bench.our_item)]
    tests = [items[0] * EPISODES, items[1] * PAIRS]
    where = torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"
    print(f"{arch}, {size} x {size}, batch {batch}, {where}, {torch.get_num_threads()} threads")
    print(f"{'':<38}{'published':>12}{'ours':>12}{'ratio':>8}")
    for name, (theirs, ours), amount in (
        ("training, images/s", steps, batch),
        ("scoring, items/s", items, 1),
        ("the 1000 published episodes, items/s", tests, EPISODES),
    ):
        print(f"{name:<38}{amount / theirs:>12.2f}{amount / ours:>12.2f}{theirs / ours:>8.1f}")


if __name__ == "__main__":
    main()
