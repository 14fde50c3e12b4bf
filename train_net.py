#!/usr/bin/env python
"""ZegFormer from the command line, with the options of detectron2's scripts.

./train_net.py --config-file configs/coco-stuff/NAME.yaml --num-gpus 8
./train_net.py --config-file configs/coco-stuff/NAME_gzss_eval.yaml --eval-only MODEL.WEIGHTS FILE
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

from pipeline.commands import one_line_errors


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
)
@click.option(
    "--config-file",
    required=True,
    type=click.Path(path_type=Path),
    help="A YAML file of configs/.",
)
@click.option("--num-gpus", default=1, show_default=True, help="Processes on this machine.")
@click.option("--num-machines", default=1, show_default=True)
@click.option("--machine-rank", default=0, show_default=True, help="Number of this machine.")
@click.option("--dist-url", default="", help="tcp://HOST:PORT of machine 0, for several machines.")
@click.option("--resume", is_flag=True, help="Go on from OUTPUT_DIR.")
@click.option("--eval-only", is_flag=True, help="Score MODEL.WEIGHTS on DATASETS.TEST.")
@click.option(
    "--fit-gpus",
    is_flag=True,
    help="Batch, rate and iterations for these GPUs by a rule of thumb: 4 images a GPU.",
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
    eval_only: bool,
    fit_gpus: bool,
    debug: bool,
    opts: tuple[str, ...],
) -> None:
    """Train or score ZegFormer. OPTS: KEY VALUE ... override the configuration."""
    if num_gpus * num_machines > 1 and "LOCAL_RANK" not in os.environ:
        _start_processes(num_gpus, num_machines, machine_rank, dist_url)
        return
    _log_to_terminal()
    with one_line_errors(debug=debug):
        _run(config_file, opts, num_gpus * num_machines, resume, eval_only, fit_gpus)


def _start_processes(num_gpus: int, num_machines: int, machine_rank: int, dist_url: str) -> None:
    """Start this command again under torchrun, once a GPU."""
    from torch.distributed import run

    arguments = [f"--nproc-per-node={num_gpus}", f"--nnodes={num_machines}"]
    if num_machines > 1:
        address = dist_url.removeprefix("tcp://")
        host, _, port = address.partition(":")
        if not port:
            raise click.UsageError("several machines need --dist-url tcp://HOST:PORT of machine 0")
        arguments += [
            f"--node-rank={machine_rank}",
            f"--master-addr={host}",
            f"--master-port={port}",
        ]
    else:
        arguments.append("--standalone")
    run.main([*arguments, *sys.argv])


def _log_to_terminal() -> None:
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(
        level=logging.INFO if first else logging.ERROR, format="%(asctime)s %(message)s"
    )
    logging.getLogger("PIL").setLevel(logging.WARNING)


def _run(
    config_file: Path,
    opts: tuple[str, ...],
    gpus: int,
    resume: bool,
    eval_only: bool,
    fit_gpus: bool,
) -> None:
    from data import weight_files
    from eval.zegformer.build import fit_gpus as fitted
    from eval.zegformer.build import network
    from eval.zegformer.classes import text_dim, trained_classes
    from models.zegformer.config import load
    from train import distributed
    from train.zegformer.evaluate import evaluate
    from train.zegformer.train import train

    settings = load(config_file, opts)
    if fit_gpus:
        settings = fitted(settings, gpus)
    out = Path(settings.OUTPUT_DIR)
    out.mkdir(parents=True, exist_ok=True)
    logging.getLogger().addHandler(logging.FileHandler(out / "log.txt"))
    with distributed.start(settings.MODEL.DEVICE) as world:
        if eval_only:
            path = Path(settings.MODEL.WEIGHTS).expanduser()
            checkpoint = weight_files.read(path) if path.is_file() else None
            trained = trained_classes(checkpoint)
            dim = text_dim(settings, trained)
            model = network(settings, dim, trained=True, checkpoint=checkpoint).to(world.device)
            figures = evaluate(settings, model, world, trained=trained, out=out)
        else:
            _, figures = train(settings, world, resume=resume)
        if world.is_first:
            click.echo(",".join(figures))
            click.echo(",".join(f"{value:.4f}" for value in figures.values()))


if __name__ == "__main__":
    main()
