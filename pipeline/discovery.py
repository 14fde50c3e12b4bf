"""Commands that use eigenvectors: objects, segments, clusters, names, and pages of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import click

from data.datasets import DATASETS
from data.trees.tree import Tree
from pipeline.click_options import FilledPath
from pipeline.config import MACHINE, STAGE_KEYS, Config
from pipeline.identity import answering, stage_request, truth_of
from pipeline.layout import Layout
from pipeline.options import config_options, dataset_option, workers_option
from pipeline.requests import Photo


def _run(stage: str, run: Callable[..., None], config: Config, dataset: str, workers: int) -> None:
    """Run a stage that reads the shards of a data set, and record which request it answered."""
    layout = Layout.of(config)
    output = {"objects": layout.objects, "segments": layout.segments}[stage](dataset)
    with answering(stage_request(stage, config), layout, dataset):
        shards = Path(layout.index(dataset)).parent
        run(Path(layout.manifest(dataset)), shards, Path(output), config, workers=workers)


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["objects"], *MACHINE)
@workers_option
def objects(config: Config, dataset: str, workers: int) -> None:
    """Turn eigenvectors into objects: boxes, masks and confidences in COCO's results format."""
    from pipeline.stages import objects as stage

    _run("objects", stage.run, config, dataset, workers)


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["segments"], *MACHINE)
@workers_option
def segments(config: Config, dataset: str, workers: int) -> None:
    """Turn eigenvectors into segments: a label map per image, and the features of all segments."""
    from pipeline.stages import segments as stage

    _run("segments", stage.run, config, dataset, workers)


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["clusters"])
def clusters(config: Config, dataset: str) -> None:
    """Cluster the segments of a data set; scored if there are labels."""
    from pipeline.stages import clusters as stage
    from pipeline.stages.manifest import tree_for

    layout = Layout.of(config)
    tree = tree_for(dataset, config, layout)
    with answering(stage_request("clusters", config, _truth(dataset, tree)), layout, dataset):
        stage.run(Path(layout.segments(dataset)), tree, Path(layout.clusters(dataset)), config)


def _truth(dataset: str, tree: Tree) -> tuple[Photo, ...]:
    """Label maps that a score depends on, except those that an earlier stage makes."""
    return () if DATASETS[dataset].generator is not None else truth_of(tree)


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["names"], *MACHINE)
@click.option(
    "--masks",
    type=FilledPath(path_type=Path),
    help="Masks to name: COCO JSON, or a folder of SAM's files or label PNGs. Default: segments.",
)
def names(config: Config, dataset: str, masks: Path | None) -> None:
    """Name masks; scored on VOC."""
    from pipeline.stages import names as stage
    from pipeline.stages.manifest import tree_for

    layout = Layout.of(config)
    tree = tree_for(dataset, config, layout)
    request = stage_request("names", config, _truth(dataset, tree))
    if masks is not None:  # no request describes the result
        Path(layout.record(dataset, "names")).unlink(missing_ok=True)
    with answering(request, layout, dataset) if masks is None else contextlib.nullcontext():
        stage.run(
            masks or Path(layout.segments(dataset)).parent,
            tree,
            Path(layout.names(dataset)),
            config,
        )


@click.command()
@click.option(
    "--dataset", type=click.Choice(["samples"]), required=True, help="Name of the data set."
)
@config_options(*STAGE_KEYS["words"], *MACHINE)
def words(config: Config, dataset: str) -> None:
    """Write an HTML page of images segmented by words."""
    from pipeline import manifest
    from pipeline.stages import words_page as stage

    layout = Layout.of(config)
    with answering(stage_request("words", config), layout, dataset):
        stage.run(
            {entry.id: Path(entry.path) for entry in manifest.read(layout.manifest(dataset))},
            Path(layout.index(dataset)).parent,
            Path(layout.words(dataset)),
            device=config.machine.device,
        )


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["discovery"], *MACHINE)
def discovery(config: Config, dataset: str) -> None:
    """Write an HTML page with objects, named segments and joint graphs of images."""
    from pipeline import manifest
    from pipeline.stages import discovery_page as stage

    layout = Layout.of(config)
    with answering(stage_request("discovery", config), layout, dataset):
        stage.run(
            dataset,
            {entry.id: Path(entry.path) for entry in manifest.read(layout.manifest(dataset))},
            Path(layout.objects(dataset)),
            Path(layout.segments(dataset)).parent,
            Path(layout.discovery(dataset)),
            config,
        )


@click.command("demo-page")
@config_options("results_root")
def demo_page(config: Config) -> None:
    """Write the start page of the demo, with links to its other pages."""
    from pipeline.stages import demo_page as stage

    stage.run(Path(config.results_root), Path(Layout.of(config).demo_page()))


COMMANDS = (objects, segments, clusters, names, discovery, words, demo_page)
