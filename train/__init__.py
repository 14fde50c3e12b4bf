"""Floor 5: losses, loops, schedules, checkpoints, distributed start-up."""

from _eigenshape_floors import require

require("data", "eigen", "models", "eval")
