"""Floor 4: protocols, metrics, fusion, inference on own pictures, figures."""

from _eigenshape_floors import require

require("data", "eigen", "models")
