"""Floor 6: the stages of the DAG as commands, `python -m pipeline STAGE`."""

from _eigenshape_floors import require

require("data", "eigen", "models", "eval", "train")
