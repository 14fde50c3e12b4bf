"""Commands on top of eigenvectors: objects, segments, clusters of segments, names."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from data.datasets import DATASETS
from data.trees.tree import Tree
from pipeline.config import MACHINE, STAGE_KEYS, Config
from pipeline.identity import answering, stage_request, truth_of
from pipeline.layout import Layout
from pipeline.options import config_options, dataset_option, workers_option
from pipeline.requests import Photo


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["objects"], *MACHINE)
@workers_option
def objects(config: Config, dataset: str, workers: int) -> None:
    """Eigenvectors to objects: boxes, masks and confidences in COCO's results format."""
    from pipeline.stages import objects as stage

    layout = Layout.of(config)
    with answering(stage_request("objects", config), layout, dataset):
        stage.run(
            Path(layout.manifest(dataset)),
            Path(layout.index(dataset)).parent,
            Path(layout.objects(dataset)),
            config,
            workers=workers,
        )


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["segments"], *MACHINE)
@workers_option
def segments(config: Config, dataset: str, workers: int) -> None:
    """Eigenvectors to segments: a label map per image, and the features of all segments."""
    from pipeline.stages import segments as stage

    layout = Layout.of(config)
    with answering(stage_request("segments", config), layout, dataset):
        stage.run(
            Path(layout.manifest(dataset)),
            Path(layout.index(dataset)).parent,
            Path(layout.segments(dataset)),
            config,
            workers=workers,
        )


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["clusters"])
def clusters(config: Config, dataset: str) -> None:
    """Segments of the whole data set to clusters, scored where there are labels."""
    from pipeline.stages import clusters as stage
    from pipeline.stages.manifest import tree_for

    layout = Layout.of(config)
    tree = tree_for(dataset, config, layout)
    with answering(stage_request("clusters", config, _truth(dataset, tree)), layout, dataset):
        stage.run(Path(layout.segments(dataset)), tree, Path(layout.clusters(dataset)), config)


def _truth(dataset: str, tree: Tree) -> tuple[Photo, ...]:
    """Label maps that a score depends on, but for those that an earlier stage makes."""
    return () if DATASETS[dataset].generator is not None else truth_of(tree)


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["names"], *MACHINE)
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    help="Masks to name: COCO JSON, a folder of SAM's files or of label PNGs. [segments]",
)
def names(config: Config, dataset: str, masks: Path | None) -> None:
    """Masks to names; scored on VOC."""
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
    """Images segmented by words that are in them, as one HTML page."""
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
    """One HTML page: objects, named segments, and images that share one graph."""
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
    """One HTML page with links to all pages of the demo."""
    from pipeline.stages import demo_page as stage

    stage.run(Path(config.results_root), Path(Layout.of(config).demo_page()))


COMMANDS = (objects, segments, clusters, names, discovery, words, demo_page)
