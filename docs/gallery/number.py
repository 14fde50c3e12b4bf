"""Number of eigenvectors

Segments from the first 2, 4, 6 and 12 eigenvectors, and the eigenvalues. The largest gap between
two eigenvalues (dotted line) is the usual guide to the number of eigenvectors. More segments are
not better segments: beyond the gap they divide surfaces.
"""

import matplotlib.pyplot as plt
from skimage.data import astronaut
from skimage.segmentation import mark_boundaries
from skimage.transform import resize
from skimage.util import img_as_ubyte

import eigenshape as es
from eigen.segments import segments
from eigen.segments.partition import by_eigengap

COUNTS = (2, 4, 6, 12)


def main(width=300):
    image = img_as_ubyte(resize(astronaut(), (width, width), anti_aliasing=True))
    pairs = es.eigenvectors(image, "efficientnet_lite2", k=max(COUNTS) + 1)
    figure, axes = plt.subplots(1, 5, figsize=(13, 2.9), layout="constrained")
    for axis, count in zip(axes, COUNTS, strict=False):
        labels = segments(pairs, count).labels
        axis.imshow(mark_boundaries(image, labels, color=(1, 1, 0), mode="thick"))
        axis.set(title=f"{count} segments", xticks=[], yticks=[])
    axes[-1].plot(range(1, pairs.k + 1), pairs.eigenvalues, "o-", color="black", markersize=4)
    axes[-1].axvline(by_eigengap(pairs.eigenvalues) + 0.5, color="tab:red", linestyle=":")
    axes[-1].set(title="eigenvalues", xlabel="number", xticks=range(1, pairs.k + 1, 3))
    return figure


if __name__ == "__main__":
    main().savefig("number.png")
