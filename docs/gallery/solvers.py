"""Solvers

Time and residual of each solver on the two kinds of graph of one image. Every solver must reach
the same tolerance, 1e-5; one that does not raises an error and has no bar. `auto`
uses the first solver that suits the graph ([which and why](../solvers.md)). Times are single
measurements on the machine that built this page; only their order of magnitude is meaningful.
"""

import time

import matplotlib.pyplot as plt
from skimage.data import chelsea
from skimage.transform import resize
from skimage.util import img_as_ubyte

import eigenshape as es
from eigen.solvers.solution import ConvergenceError

GRAPHS = {
    "patch graph": (es.GraphSpec(), ("dense", "lanczos", "batched", "lobpcg")),
    "pixel graph": (
        es.GraphSpec(kind="pixel", pixels=es.PixelSpec(step=3)),
        ("lobpcg", "lanczos", "shift_invert"),
    ),
}


def main(width=300):
    height = width * 2 // 3
    image = img_as_ubyte(resize(chelsea(), (height, width), anti_aliasing=True))
    figure, axes = plt.subplots(1, len(GRAPHS), figsize=(10, 3), layout="constrained")
    for axis, (title, (graph, names)) in zip(axes, GRAPHS.items(), strict=True):
        for place, name in enumerate(names):
            start = time.perf_counter()
            try:
                pairs = es.eigenvectors(image, "lowlevel8", k=5, graph=graph, solver=name)
            except ConvergenceError:
                axis.text(0, place, " does not reach 1e-5", va="center")
                continue
            seconds = time.perf_counter() - start
            axis.barh(place, seconds, color="tab:blue")
            axis.text(seconds, place, f" residual {pairs.residual.max():.0e}", va="center")
        axis.set_yticks(range(len(names)), names)
        axis.margins(x=0.6)
        axis.set(
            xlabel="seconds, image to eigenvectors",
            title=title,
            xlim=(0, None),
            ylim=(-0.6, len(names) - 0.4),
        )
    return figure


if __name__ == "__main__":
    main().savefig("solvers.png")
