"""Floor 5: losses, loops, schedules, checkpoints, distributed start-up."""
