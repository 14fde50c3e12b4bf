"""Weight of colour

`colour_weight` times a colour affinity is added to the similarity of features. Without it,
eigenvectors follow the features alone; around 10 they are smoother within a colour and cut at its
edges. Larger weights change little more, since colour then dominates. The features are those of
EfficientNet-Lite2.
"""

import matplotlib.pyplot as plt
from skimage.data import astronaut
from skimage.transform import resize
from skimage.util import img_as_ubyte

import eigenshape as es
from eval.figures import vector_rgb

WEIGHTS = (0, 1, 10, 100)


def main(width=300):
    image = img_as_ubyte(resize(astronaut(), (width, width), anti_aliasing=True))
    figure, axes = plt.subplots(len(WEIGHTS), 5, figsize=(10, 8), layout="compressed")
    for row, weight in zip(axes, WEIGHTS, strict=True):
        graph = es.GraphSpec(colour="knn", colour_weight=weight) if weight else es.GraphSpec()
        pairs = es.eigenvectors(image, "efficientnet_lite2", k=5, graph=graph)
        row[0].imshow(image)
        row[0].set_ylabel(f"weight {weight}", rotation=0, ha="right", va="center")
        for axis, vector in zip(row[1:], pairs.vectors[1:], strict=True):
            axis.imshow(vector_rgb(vector, size=image.shape[:2]))
    for k, axis in enumerate(axes[0]):
        axis.set_title(f"eigenvector {k}" if k else "image")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    main().savefig("colour.png")
