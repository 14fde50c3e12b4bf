"""Failures

Cases in which eigenvectors or words fail:

- **Repeated objects.** Coins are more similar to each other than to their surroundings, so they
  share an eigenvector, and a few eigenvectors do not separate one coin from another.
- **Noise.** An image without structure has no gap between eigenvalues; its eigenvectors are
  arbitrary smooth patterns, and yet certified. A certificate shows that the equation is solved, not
  that the solution is meaningful.
- **Untrained weights.** A network with randomly initialised weights gives eigenvectors
  unrelated to the content of the image, with equally small residuals.
- **Words for absent things.** Given the word "horse" and a photo of a cat, the bundled network
  marks most of the cat. Give it the names of what you see.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.color import gray2rgb
from skimage.data import chelsea, coins
from skimage.transform import resize
from skimage.util import img_as_ubyte

import eigenshape as es
from eval.figures import vector_rgb
from eval.sazs.words import PACKAGED


def main(width=270):
    size = (width * 2 // 3, width)
    cat = img_as_ubyte(resize(chelsea(), size, anti_aliasing=True))
    many = img_as_ubyte(resize(gray2rgb(coins()), size, anti_aliasing=True))
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    untrained = es.extractor("dino_vits16", weights="random:0")
    cases = (
        ("repeated objects", many, "lowlevel8"),
        ("noise", noise, "lowlevel8"),
        ("untrained network", cat, untrained),
    )
    figure, axes = plt.subplots(4, 4, figsize=(9, 6.5), layout="compressed")
    for row, (title, image, extractor) in zip(axes, cases, strict=False):
        pairs = es.eigenvectors(image, extractor, k=4)
        row[0].imshow(image)
        row[0].set_ylabel(title, rotation=0, ha="right", va="center")
        for axis, vector in zip(row[1:], pairs.vectors[1:], strict=True):
            axis.imshow(vector_rgb(vector, size=size))
    model = es.load(PACKAGED, device="cpu")
    axes[3, 0].imshow(cat)
    axes[3, 0].set_ylabel("words for\nabsent things", rotation=0, ha="right", va="center")
    for axis, word in zip(axes[3, 1:], ("cat", "horse", "bus"), strict=True):
        found = es.segment(cat, [word], model)
        axis.imshow(np.where(found[..., None] > 0, cat, cat // 4))
        axis.set_xlabel(f'"{word}"')
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    main().savefig("failures.png")
