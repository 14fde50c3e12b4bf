"""The commands that find and name things with eigenvectors: objects, segments, clusters, names."""

from __future__ import annotations

from pathlib import Path

import click

from data.datasets import DATASETS
from pipeline.config import MACHINE, STAGE_KEYS, Config
from pipeline.identity import stage_request
from pipeline.layout import Layout
from pipeline.options import config_options
from pipeline.requests import answer

dataset_option = click.option(
    "--dataset", type=click.Choice(list(DATASETS)), required=True, help="Name of the data set."
)
workers_option = click.option(
    "--workers", type=int, default=1, show_default=True, help="Processes on this machine."
)


def _layout(config: Config) -> Layout:
    return Layout(config.datasets_root, config.results_root, config.solve.k)


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["objects"], *MACHINE)
@workers_option
def objects(config: Config, dataset: str, workers: int) -> None:
    """Eigenvectors to objects: boxes, masks and confidences in COCO's results format."""
    from pipeline.stages import objects as stage

    layout = _layout(config)
    stage.run(
        Path(layout.manifest(dataset)),
        Path(layout.index(dataset)).parent,
        Path(layout.objects(dataset)),
        config,
        workers=workers,
    )
    answer(layout.record(dataset, "objects"), stage_request("objects", config))


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["segments"], *MACHINE)
@workers_option
def segments(config: Config, dataset: str, workers: int) -> None:
    """Eigenvectors to segments: a label map per image, and the features of all segments."""
    from pipeline.stages import segments as stage

    layout = _layout(config)
    stage.run(
        Path(layout.manifest(dataset)),
        Path(layout.index(dataset)).parent,
        Path(layout.segments(dataset)),
        config,
        workers=workers,
    )
    answer(layout.record(dataset, "segments"), stage_request("segments", config))


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["clusters"])
def clusters(config: Config, dataset: str) -> None:
    """Segments of the whole data set to clusters, scored where there are labels."""
    from pipeline.stages import clusters as stage
    from pipeline.stages.manifest import tree_for

    layout = _layout(config)
    stage.run(
        Path(layout.segments(dataset)),
        tree_for(dataset, config, layout),
        Path(layout.clusters(dataset)),
        config,
    )
    answer(layout.record(dataset, "clusters"), stage_request("clusters", config))


@click.command()
@dataset_option
@config_options(*STAGE_KEYS["names"], *MACHINE)
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    help="Masks to name: COCO JSON, a folder of SAM's files or of label PNGs. [the segments]",
)
@click.option("--words", help="Names of ImageNet classes, separated by commas. [the 20 of VOC]")
def names(config: Config, dataset: str, masks: Path | None, words: str | None) -> None:
    """Masks to names, by an ImageNet classifier; scored on VOC."""
    from pipeline.stages import names as stage
    from pipeline.stages.manifest import tree_for

    layout = _layout(config)
    stage.run(
        masks or Path(layout.segments(dataset)).parent,
        tree_for(dataset, config, layout),
        Path(layout.names(dataset)),
        config,
        words=[word.strip() for word in words.split(",") if word.strip()] if words else None,
    )
    if masks is None and words is None:
        answer(layout.record(dataset, "names"), stage_request("names", config))


COMMANDS = (objects, segments, clusters, names)
