"""Commands on data sets: what is present, lists, label maps, text embeddings."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from data.datasets import DATASETS, downloaded, generated
from data.errors import RunError
from pipeline.click_options import FilledPath
from pipeline.config import Config
from pipeline.layout import Layout
from pipeline.options import config_options, workers_option


@click.command("check-data")
@click.argument(
    "datasets", nargs=-1, type=click.Choice([d for d in DATASETS if d not in generated()])
)
@config_options("datasets_root", "folder", "photos")
def check_data(config: Config, datasets: tuple[str, ...]) -> None:
    """Report which parts of the data sets are present, and where missing files belong."""
    from pipeline.stages.manifest import tree_for

    complete = True
    for dataset in datasets or downloaded():
        click.secho(dataset, bold=True)
        for finding in tree_for(dataset, config, Layout.of(config)).check():
            complete &= finding.level != "missing"
            click.echo(f"  {finding}")
    sys.exit(0 if complete else 1)


@click.command()
@click.option(
    "--dataset",
    type=click.Choice([d.name for d in DATASETS.values() if d.benchmark is not None]),
    required=True,
    help="Name of the data set.",
)
@config_options("datasets_root", "results_root")
@workers_option
def lists(config: Config, dataset: str, workers: int) -> None:
    """Generate the lists of PASCAL-5i or COCO-20i, and compare them with the published ones."""
    from data.datasets import open_tree
    from pipeline.stages import lists as stage

    output = Path(config.results_root) / dataset / "lists.json"
    for finding in stage.write_lists(
        open_tree(dataset, config.datasets_root), output, workers=workers
    ):
        click.echo(f"{finding}")
    click.echo(f"lists -> {output}")


@click.command("coco-masks")
@config_options("datasets_root")
@workers_option
def coco_masks(config: Config, workers: int) -> None:
    """Draw COCO's label maps from the official instances_*.json."""
    from data.trees.coco import CocoTree
    from pipeline.stages import lists as stage

    stage.write_coco_masks(CocoTree(config.datasets_root), workers=workers)


@click.command()
@click.argument("name", type=click.Choice(("coco-stuff", "voc", "ade20k-full")))
@config_options("datasets_root")
@workers_option
def prepare(config: Config, name: str, workers: int) -> None:
    """Write ZegFormer's label maps from the official files of a data set; can be resumed."""
    from data.zegformer.prepare_sets import prepare as run

    failed, findings = run(name, Path(config.datasets_root), workers=workers)
    for finding in findings:
        click.echo(f"{finding}")
    if failed:
        raise RunError(f"{len(failed)} label maps could not be read; the log above lists them")


@click.command("centre-embeddings")
@click.argument("table", type=FilledPath(path_type=Path))
@click.argument("out", type=FilledPath(path_type=Path))
@click.option(
    "--vocabulary", required=True, help="Built-in vocabulary (voc), or a file of class names."
)
def centre_embeddings(table: Path, out: Path, vocabulary: str) -> None:
    """Subtract the mean of seen classes from the embeddings in TABLE, and write OUT (.npy)."""
    import numpy as np

    from data.files import atomic_path
    from data.text.embeddings import centred, load_embeddings
    from data.text.vocabulary import builtin, from_file

    path = Path(vocabulary)
    classes = from_file(path) if path.suffix else builtin(vocabulary)
    rows = centred(load_embeddings(table, classes), classes)
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        np.save(file, rows)
    click.echo(f"{len(rows)} rows -> {out}")


COMMANDS = (check_data, lists, coco_masks, prepare, centre_embeddings)
