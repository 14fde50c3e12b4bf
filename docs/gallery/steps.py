"""From image to mask

The steps for one image: the graph, shown for one patch (the similarity of every patch to the one
with the cross); the smallest eigenvalues of its Laplacian; the first eigenvector that is not
constant; and the mask where that eigenvector is above 0. [The eigenproblem](../eigenproblem.md)
explains these steps.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.data import chelsea
from skimage.transform import resize
from skimage.util import img_as_ubyte

import eigenshape as es
from eigen.masks import masks
from eval.figures import outlines, vector_rgb


def main(width=300):
    height = width * 2 // 3
    image = img_as_ubyte(resize(chelsea(), (height, width), anti_aliasing=True))
    extractor = es.extractor("efficientnet_lite2")
    features = extractor([image])[0]
    h, w = extractor.grid(image.shape[:2])
    row, column = h // 2, w // 2
    affinity = np.maximum(features @ features.T, 0)
    pairs = es.eigenvectors(image, extractor, k=10)
    figure, axes = plt.subplots(1, 5, figsize=(14, 2.4), layout="constrained")
    axes[0].imshow(image)
    axes[1].imshow(affinity[row * w + column].reshape(h, w), cmap="magma", vmin=0, vmax=1)
    axes[1].plot(column, row, "+", color="tab:cyan", markersize=12, markeredgewidth=2)
    axes[2].plot(pairs.eigenvalues, "o", color="black", markersize=4)
    axes[3].imshow(vector_rgb(pairs.vectors[1], size=image.shape[:2]))
    axes[4].imshow(outlines(image, masks(pairs, image.shape[:2])[1:2], width=4))
    titles = ("image", "similarity to one patch", "eigenvalues", "eigenvector 1", "its mask")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title)
        if axis is not axes[2]:
            axis.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    main().savefig("steps.png")
