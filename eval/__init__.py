"""Floor 4: protocols, metrics, fusion, inference on images, figures."""

from _eigenshape_floors import require

require("data", "eigen", "models")
