"""Layers

Eigenvectors 1 to 4 of one image, computed from the outputs of different stages of
EfficientNet-Lite2 (trained on ImageNet), and from `lowlevel8`, which has no weights at all. Early
stages follow colour and texture; late ones follow parts and objects, at a coarser resolution. By
default this extractor concatenates three stages.

Vision transformers have two settings: `block` selects the layer, and `facet` selects keys,
queries, values or tokens ([extractors](../extractors.md)). Their weights do not come in a Python
package, so they are not shown here. If you have a weight file, add a row such as
`{"name": "dino_vits16", "weights": "dino_deitsmall16_pretrain.pth", "facet": "query", "block": -2}`
to `ROWS`.
"""

import matplotlib.pyplot as plt
from skimage.data import chelsea
from skimage.transform import resize
from skimage.util import img_as_ubyte

import eigenshape as es
from eval.figures import vector_rgb

ROWS = {
    "lowlevel8": {"name": "lowlevel8"},
    "blocks.4": {"name": "efficientnet_lite2", "stages": "blocks.4"},
    "blocks.6": {"name": "efficientnet_lite2", "stages": "blocks.6"},
    "blocks.4, 5, 6\n(default)": {"name": "efficientnet_lite2"},
}


def main(width=300):
    height = width * 2 // 3
    image = img_as_ubyte(resize(chelsea(), (height, width), anti_aliasing=True))
    figure, axes = plt.subplots(len(ROWS), 5, figsize=(10, 1.4 * len(ROWS)), layout="compressed")
    for row, (title, options) in zip(axes, ROWS.items(), strict=True):
        pairs = es.eigenvectors(image, es.extractor(**options), k=5)
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
    main().savefig("layers.png")
