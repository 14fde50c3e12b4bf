"""Extractors: from an image to one unit-length feature row per node of its patch grid.

Contract of every extractor, built in or plugged in (`contract.Extractor`):

1. `grid((H, W))` is (h, w) = (max(1, H // patch), max(1, W // patch)); the strip right of and below
   the last whole patch is ignored, and an image smaller than one patch is extended by its last
   row and column.
2. Calling it with B images, (H, W, 3) uint8 RGB, all of one size, gives (B, h*w, dim) float32,
   row-major over the grid, every row of length 1 (also for an image of one colour).
3. An image's rows do not depend on the other images of its batch: on the CPU byte for byte.
4. `config()` names everything that decides the features, the SHA-256 of the weights included.

`extractor(NAME)` makes one. `docs/extractors.md` lists the names and shows how to add one without
editing this package.
"""

from eigen.extractors.contract import Extractor
from eigen.extractors.registry import extractor, make, names
from eigen.extractors.spec import ExtractorSpec

__all__ = ["Extractor", "ExtractorSpec", "extractor", "make", "names"]
