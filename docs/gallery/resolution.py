"""Resolution

One image at three sizes, with patches of 16 and of 8 pixels. The number of
patches on an object matters, not the number of pixels: an enlarged image with large patches gives
nearly the eigenvectors of a smaller one with small patches. Each row is labelled with the width of
the image and the size of the grid.
"""

import matplotlib.pyplot as plt
from skimage.data import chelsea
from skimage.transform import resize
from skimage.util import img_as_ubyte

import eigenshape as es
from eval.figures import vector_rgb


def main(width=360):
    height = width * 2 // 3
    rows = [(width * s // 4, name) for s in (1, 2, 4) for name in ("lowlevel", "lowlevel8")]
    figure, axes = plt.subplots(len(rows), 5, figsize=(10, 8), layout="compressed")
    for row, (side, name) in zip(axes, rows, strict=True):
        image = resize(chelsea(), (side * 2 // 3, side), anti_aliasing=True)
        pairs = es.eigenvectors(img_as_ubyte(image), name, k=5)
        h, w = pairs.grid
        row[0].imshow(image)
        row[0].set_ylabel(f"{side} px, {h} x {w}", rotation=0, ha="right", va="center")
        for axis, vector in zip(row[1:], pairs.vectors[1:], strict=True):
            axis.imshow(vector_rgb(vector, size=(height, width)))
    for k, axis in enumerate(axes[0]):
        axis.set_title(f"eigenvector {k}" if k else "image")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    main().savefig("resolution.png")
