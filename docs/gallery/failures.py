"""Failures

Where eigenvectors or words fail, so that you recognise it:

- **Objects that repeat.** Coins resemble each other more than their surroundings, so they share a
  vector, and no small number of vectors tells one from another.
- **Noise.** An image without structure has no gap between eigenvalues; the vectors are any smooth
  pattern, and certified all the same. A certificate says that the equation is solved, not that
  the answer means something.
- **Weights that were never trained.** A network with randomly initialised weights gives vectors
  that follow nothing in the image, with residuals as small as any.
- **A word for what is not there.** The packaged network answers "horse" on a photo of a cat with
  most of the cat. Ask for what you see.
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
        ("objects that repeat", many, "lowlevel8"),
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
    axes[3, 0].set_ylabel("a word for what\nis not there", rotation=0, ha="right", va="center")
    for axis, word in zip(axes[3, 1:], ("cat", "horse", "bus"), strict=True):
        found = es.segment(cat, [word], model)
        axis.imshow(np.where(found[..., None] > 0, cat, cat // 4))
        axis.set_xlabel(f'"{word}"')
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    main().savefig("failures.png")
