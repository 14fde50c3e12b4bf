"""Floor 6: the stages of the DAG as commands, `python -m pipeline STAGE`."""
