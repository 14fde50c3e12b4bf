#!/usr/bin/env python
"""ZegFormer from the command line, with the options of detectron2's scripts.

./train_net.py --config-file configs/coco-stuff/NAME.yaml --num-gpus 8
./train_net.py --config-file configs/coco-stuff/NAME_gzss_eval.yaml --eval-only MODEL.WEIGHTS FILE
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands import one_line_errors

if TYPE_CHECKING:
    from models.zegformer.settings import ZegFormerSettings
    from train.distributed import World


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
)
@click.option(
    "--config-file",
    required=True,
    type=click.Path(path_type=Path),
    help="YAML file, such as those in configs/.",
)
@click.option(
    "--num-gpus", default=1, show_default=True, help="Processes on this machine, one per GPU."
)
@click.option("--num-machines", default=1, show_default=True, help="Number of machines.")
@click.option("--machine-rank", default=0, show_default=True, help="Rank of this machine, from 0.")
@click.option("--dist-url", default="", help="tcp://HOST:PORT of machine 0, if there are several.")
@click.option("--resume", is_flag=True, help="Resume from the checkpoint in OUTPUT_DIR.")
@click.option("--extend", is_flag=True, help="Resume with a different SOLVER.MAX_ITER.")
@click.option(
    "--eval-only", is_flag=True, help="Score MODEL.WEIGHTS on DATASETS.TEST, without training."
)
@click.option(
    "--fit-gpus",
    is_flag=True,
    help="Scale batch size, learning rate and iterations to the number of GPUs (4 images per GPU).",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.argument("opts", nargs=-1)
def main(
    config_file: Path,
    num_gpus: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    resume: bool,
    extend: bool,
    eval_only: bool,
    fit_gpus: bool,
    debug: bool,
    opts: tuple[str, ...],
) -> None:
    """Train or score ZegFormer. OPTS are KEY VALUE pairs that override the configuration."""
    _log_to_terminal()
    with one_line_errors(debug=debug):
        if num_gpus * num_machines > 1 and "LOCAL_RANK" not in os.environ:
            _start_processes(num_gpus, num_machines, machine_rank, dist_url)
            return
        gpus = num_gpus * num_machines
        settings = _settings(config_file, opts, gpus if fit_gpus else None)
        _run(settings, resume=resume, extend=extend, eval_only=eval_only)


def _start_processes(num_gpus: int, num_machines: int, machine_rank: int, dist_url: str) -> None:
    """Start this command again under torchrun, once per GPU."""
    from train.launch import start_processes

    place = ["--standalone"]
    if num_machines > 1:
        host, _, port = dist_url.removeprefix("tcp://").partition(":")
        if not port:
            raise click.UsageError("several machines need --dist-url tcp://HOST:PORT of machine 0")
        place = [
            f"--nnodes={num_machines}",
            f"--node-rank={machine_rank}",
            f"--master-addr={host}",
            f"--master-port={port}",
        ]
    start_processes(num_gpus, place, resume="--resume continues it")


def _log_to_terminal() -> None:
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(
        level=logging.INFO if first else logging.ERROR, format="%(asctime)s %(message)s"
    )
    logging.getLogger("PIL").setLevel(logging.WARNING)


def _settings(config_file: Path, opts: tuple[str, ...], gpus: int | None) -> ZegFormerSettings:
    """Settings of the file and the overrides, fitted to a number of GPUs if one is given."""
    from eval.zegformer.build import fit_gpus
    from models.zegformer.config import load

    settings = load(config_file, opts)
    return settings if gpus is None else fit_gpus(settings, gpus)


def _run(settings: ZegFormerSettings, *, resume: bool, extend: bool, eval_only: bool) -> None:
    from eval.zegformer.page import text_table
    from train import distributed
    from train.zegformer.train import train

    out = Path(settings.OUTPUT_DIR)
    out.mkdir(parents=True, exist_ok=True)
    logging.getLogger().addHandler(logging.FileHandler(out / "log.txt"))
    with distributed.start(settings.MODEL.DEVICE) as world:
        if eval_only:
            figures = _evaluate(settings, world, out)
        else:
            _, figures = train(settings, world, resume=resume, extend=extend)
        if world.is_first and figures:
            click.echo(text_table(figures))
            click.echo()
            click.echo(",".join(figures))
            click.echo(",".join(f"{value:.4f}" for value in figures.values()))


def _evaluate(settings: ZegFormerSettings, world: World, out: Path) -> dict[str, float]:
    from data import weight_files
    from eval.zegformer.build import network
    from eval.zegformer.classes import text_dim, trained_classes
    from train.zegformer.evaluate import evaluate, weights_facts

    path = Path(settings.MODEL.WEIGHTS).expanduser()
    checkpoint = weight_files.read(path) if path.is_file() else None
    trained = trained_classes(checkpoint)
    dim = text_dim(settings, trained)
    model = network(settings, dim, trained=True, checkpoint=checkpoint).to(world.device)
    steps = checkpoint.recipe.get("trained_steps") if checkpoint else None
    facts = weights_facts(path if checkpoint else "randomly initialised", steps)
    return evaluate(settings, model, world, trained=trained, out=out, weights=facts)


if __name__ == "__main__":
    main()
