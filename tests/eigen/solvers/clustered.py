"""Features in clusters, like those of an image of a few objects."""

import numpy as np


def clustered(n, clusters=6, d=12, noise=0.4, seed=0):
    """Unit rows (n, d) float32."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, d))
    x = centres[np.arange(n) % clusters] + noise * rng.standard_normal((n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
