"""Graphs

The same features on four graphs: all pairs of patches; the 32 nearest neighbours of each patch; all
pairs with colour added; and pixels, joined to their neighbours and to similar parts of the image.
Fewer neighbours, or colour, make the eigenvectors of patches smoother. The pixel graph has the
sharpest boundaries and follows small parts, such as the eyes.
"""

import matplotlib.pyplot as plt
from skimage.data import chelsea
from skimage.transform import resize
from skimage.util import img_as_ubyte

import eigenshape as es
from eval.figures import vector_rgb

GRAPHS = {
    "patches": es.GraphSpec(),
    "32 neighbours": es.GraphSpec(neighbours=32),
    "colour added": es.GraphSpec(colour="knn", colour_weight=10),
    "pixels": es.GraphSpec(kind="pixel", pixels=es.PixelSpec(step=2)),
}


def main(width=300):
    height = width * 2 // 3
    image = img_as_ubyte(resize(chelsea(), (height, width), anti_aliasing=True))
    figure, axes = plt.subplots(len(GRAPHS), 5, figsize=(10, 5.5), layout="compressed")
    for row, (title, graph) in zip(axes, GRAPHS.items(), strict=True):
        pairs = es.eigenvectors(image, "lowlevel8", k=5, graph=graph, tolerance=1e-4)
        row[0].imshow(image)
        row[0].set_ylabel(title, rotation=0, ha="right", va="center")
        for axis, vector in zip(row[1:], pairs.vectors[1:], strict=True):
            axis.imshow(vector_rgb(vector, size=image.shape[:2]))
    for k, axis in enumerate(axes[0]):
        axis.set_title(f"eigenvector {k}" if k else "image")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    main().savefig("graphs.png")
