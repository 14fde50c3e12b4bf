"""Fusion

A mask of "cat" and how eigenvectors change it. The bundled network predicts a coarse mask; with
`eigenpairs`, the mask follows the shapes in the image. The last column uses colour alone
([how](../fusion.md)). Blue pixels are kept, red ones removed and green ones added.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.data import chelsea
from skimage.transform import resize
from skimage.util import img_as_ubyte

import eigenshape as es
from eval.sazs.words import PACKAGED

WORD = "cat"


def main(width=300):
    height = width * 2 // 3
    image = img_as_ubyte(resize(chelsea(), (height, width), anti_aliasing=True))
    model = es.load(PACKAGED, device="cpu")
    before = es.segment(image, [WORD], model) > 0
    scores = np.stack([~before, before]).astype(np.float32) * 4
    fused = {
        "eigenvectors of lowlevel8": es.segment(
            image, [WORD], model, eigenpairs=es.eigenvectors(image, "lowlevel8", k=6)
        ),
        "of EfficientNet-Lite2": es.segment(
            image, [WORD], model, eigenpairs=es.eigenvectors(image, "efficientnet_lite2", k=6)
        ),
        "colour alone": es.refine(scores, image).argmax(0),
    }
    figure, axes = plt.subplots(1, 2 + len(fused), figsize=(14, 2.6), layout="compressed")
    axes[0].imshow(image)
    axes[1].imshow(tinted(image, before, before))
    for axis, labels in zip(axes[2:], fused.values(), strict=True):
        axis.imshow(tinted(image, before, labels > 0))
    for axis, title in zip(axes, ("image", "network", *fused), strict=True):
        axis.set(title=title, xticks=[], yticks=[])
    return figure


def tinted(image, before, after):
    """Kept pixels in blue, added ones in green, removed ones in red."""
    tinted = image / 255 * 0.6
    tinted[before & after] += (0, 0.15, 0.4)
    tinted[~before & after] += (0, 0.4, 0)
    tinted[before & ~after] += (0.4, 0, 0)
    return tinted.clip(0, 1)


if __name__ == "__main__":
    main().savefig("fusion.png")
