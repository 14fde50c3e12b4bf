#!/usr/bin/env python
"""ZegFormer from the command line, with the options of detectron2's scripts.

./train_net.py --config-file configs/coco-stuff/NAME.yaml --num-gpus 8
./train_net.py --config-file configs/coco-stuff/NAME_gzss_eval.yaml --eval-only MODEL.WEIGHTS FILE
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from data import runlock
from data.errors import SettingError
from data.files import check_writable, expanded
from pipeline.click_options import FilledPath
from pipeline.commands import one_line_errors

if TYPE_CHECKING:
    from models.zegformer.settings import ZegFormerSettings
    from train.distributed import World

COUNT = click.IntRange(min=1)


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
)
@click.option(
    "--config-file",
    required=True,
    type=FilledPath(path_type=Path),
    help="YAML file, such as those in configs/.",
)
@click.option(
    "--num-gpus", type=COUNT, default=1, show_default=True, help="Processes here, one per GPU."
)
@click.option(
    "--num-machines", type=COUNT, default=1, show_default=True, help="Number of machines."
)
@click.option("--machine-rank", default=0, show_default=True, help="Rank of this machine, from 0.")
@click.option("--dist-url", default="", help="tcp://HOST:PORT of machine 0, if there are several.")
@click.option("--resume", is_flag=True, help="Resume from the checkpoint in OUTPUT_DIR.")
@click.option("--restart", is_flag=True, help="Start over, and overwrite the run in OUTPUT_DIR.")
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
    restart: bool,
    extend: bool,
    eval_only: bool,
    fit_gpus: bool,
    debug: bool,
    opts: tuple[str, ...],
) -> None:
    """Train or score ZegFormer. OPTS are KEY VALUE pairs that override the configuration."""
    _check_words(opts)
    _log_to_terminal()
    with one_line_errors(debug=debug):
        if not 0 <= machine_rank < num_machines:
            raise SettingError(
                f"--machine-rank: expected 0 to {num_machines - 1} for --num-machines "
                f"{num_machines}, found {machine_rank}"
            )
        if num_gpus * num_machines > 1 and "LOCAL_RANK" not in os.environ:
            _start_processes(num_gpus, num_machines, machine_rank, dist_url)
            return
        gpus = num_gpus * num_machines
        settings = _settings(config_file, opts, gpus if fit_gpus else None)
        if eval_only and not settings.DATASETS.TEST:
            raise SettingError("DATASETS.TEST: expected a data set to score with --eval-only")
        if not (resume or extend or restart or eval_only):
            _check_unused(Path(settings.OUTPUT_DIR))
        _run(settings, resume=resume, extend=extend, eval_only=eval_only)


def _check_words(opts: tuple[str, ...]) -> None:
    """Refuse a misspelt option, which is taken for a key of the configuration."""
    context = click.get_current_context()
    for word in opts:
        if word.startswith("--"):
            known = [name for option in context.command.params for name in option.opts]
            close = difflib.get_close_matches(word, known, 3)
            raise click.NoSuchOption(word, possibilities=close, ctx=context)


def _check_unused(out: Path) -> None:
    from train.checkpoint import LATEST

    if (out / LATEST).is_file():
        raise SettingError(
            f"OUTPUT_DIR {out}: holds a training run; --resume continues it, --restart overwrites "
            "it, another OUTPUT_DIR keeps it"
        )


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


def _is_first() -> bool:
    """Whether this process of the run is the one that writes and reports."""
    return os.environ.get("RANK", "0") == "0"


def _log_to_terminal() -> None:
    logging.basicConfig(
        level=logging.INFO if _is_first() else logging.ERROR, format="%(asctime)s %(message)s"
    )
    logging.getLogger("PIL").setLevel(logging.WARNING)


@contextlib.contextmanager
def _log_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


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
    check_writable(out)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_log_to(out / "log.txt"))
        if _is_first():
            stack.enter_context(runlock.held(out, elsewhere="set another OUTPUT_DIR"))
        world = stack.enter_context(distributed.start(settings.MODEL.DEVICE))
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

    path = expanded(settings.MODEL.WEIGHTS)
    checkpoint = weight_files.read(path) if path.is_file() else None
    trained = trained_classes(checkpoint)
    dim = text_dim(settings, trained)
    model = network(settings, dim, trained=True, checkpoint=checkpoint).to(world.device)
    steps = checkpoint.recipe.get("trained_steps") if checkpoint else None
    facts = weights_facts(path, steps)
    return evaluate(settings, model, world, trained=trained, out=out, weights=facts)


if __name__ == "__main__":
    main()
