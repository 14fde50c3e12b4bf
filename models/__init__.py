"""Floor 3: networks with their published key layouts."""

from _eigenshape_floors import require

require("data", "eigen")
