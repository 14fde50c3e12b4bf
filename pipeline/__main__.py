"""`python -m pipeline COMMAND ...`, which is the same as `eigenshape COMMAND ...`."""

from pipeline.cli import main

main(prog_name="python -m pipeline")
