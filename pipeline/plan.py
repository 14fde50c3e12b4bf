"""What the Snakefile asks before it can plan: which shards there are, which options a job gets.

Plain Python, so that it is tested without Snakemake; `pipeline/rules/*.smk` hold the rules alone.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.datasets import DATASETS, downloaded, generated
from data.errors import DatasetError, EigenshapeError, RunError
from eigen.extractors.registry import check_weights, family
from eigen.extractors.spec import ExtractorSpec
from pipeline import config as configuration
from pipeline import manifest
from pipeline.config import Config
from pipeline.layout import STAGES, Layout, shard_name
from pipeline.mask_files import missing
from pipeline.stages.manifest import tree_for


class Plan:
    """Files and options of a run.

    Parameters
    ----------
    settings : mapping
        Snakemake's `config`: the configuration file and `--config`.

    Raises
    ------
    SettingError
        A key that does not exist or a value out of range.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self.config = configuration.resolve(settings)
        self.layout = Layout(
            self.config.datasets_root, self.config.results_root, self.config.solve.k
        )

    @functools.cache  # noqa: B019 - one object a run
    def entries(self, dataset: str) -> list[manifest.Entry]:
        """Manifest of a data set from its folders (or from what will be made), no photo opened."""
        generator = DATASETS[dataset].generator
        if generator is not None:
            ids = generator.ids(self.config.world_photos)
            return [manifest.Entry(id, "", n // self.config.shard_size) for n, id in enumerate(ids)]
        tree = tree_for(dataset, self.config, self.layout)
        return manifest.entries(tree, self.config.shard_size)

    def shards(self, dataset: str) -> list[str]:
        """Names of the shards of a data set."""
        numbers = {entry.shard for entry in self.entries(dataset) if entry.shard is not None}
        return [shard_name(number) for number in sorted(numbers)]

    def digest(self, dataset: str, shard: str | None = None) -> str:
        """Changes with the list of photos, or of one shard's photos.

        As a parameter of a job it has that job run again when its photos are others, and no other.
        """
        members = self.entries(dataset)
        if shard is not None:
            members = [entry for entry in members if entry.shard == int(shard)]
        return manifest.digest(members)

    def photos(self, wildcards: Any) -> list[str]:
        """Input function: what must be there before the photos can be listed."""
        is_generated = DATASETS[wildcards.dataset].generator is not None
        return [self.layout.made(wildcards.dataset)] if is_generated else []

    def eigenvectors(self, wildcards: Any) -> list[str]:
        """Input function: the eigenvector shards of a data set."""
        dataset = wildcards.dataset
        return [self.layout.shard(dataset, "eigenvectors", n) for n in self.shards(dataset)]

    def records(self, wildcards: Any) -> list[str]:
        """Input function: records of the stages that lead from photos to eigenvectors."""
        return [
            self.layout.record(wildcards.dataset, stage, shard)
            for stage in STAGES[self.config.path]
            for shard in self.shards(wildcards.dataset)
        ]

    def targets(self, *datasets: str) -> Callable[[Any], list[str]]:
        """Input function of a target: all that is made of some data sets.

        Shards are named although the report needs them too: Snakemake makes a deleted file again
        only if it is asked for by name.
        """

        def inputs(wildcards: Any) -> list[str]:
            try:
                for dataset in datasets:
                    check_weights(self.config_for(dataset).extractor)
                return [path for dataset in datasets for path in self._results(dataset)]
            except EigenshapeError as error:
                raise error.with_traceback(None) from None  # its message is all a user needs

        return inputs

    def check(self, words: Sequence[str]) -> None:
        """Check extractor and images of every data set whose target is on the command line.

        Raises
        ------
        EigenshapeError
            There are none, or the settings name no folder; says what belongs where.
        """
        by_target = {dataset.target: dataset for dataset in DATASETS.values()}
        for before, word in zip(["", *words], words, strict=False):
            if word in by_target and before not in ("-d", "--directory"):
                check_weights(self.config_for(by_target[word].name).extractor)
                self.entries(by_target[word].name)

    def _results(self, dataset: str) -> list[str]:
        layout = self.layout
        self._forget_missing_masks(dataset)
        once = [layout.report(dataset), layout.index(dataset), layout.quarantine(dataset)]
        shards = [
            path
            for n in self.shards(dataset)
            for path in (layout.shard(dataset, "eigenvectors", n), layout.mask_list(dataset, n))
        ]
        return once + shards

    def _forget_missing_masks(self, dataset: str) -> None:
        """Remove lists of masks that are no longer all there, so that they are written again."""
        lists = [Path(self.layout.mask_list(dataset, n)) for n in self.shards(dataset)]
        lists = [path for path in lists if path.exists()]
        folder = self.layout.masks(dataset)
        present: set[str] = set()
        if lists and folder.is_dir():
            present = {entry.name for entry in os.scandir(folder)}
        for path in lists:
            try:
                complete = not missing(path, present, self.config.solve.k)
            except RunError:
                complete = False
            if not complete:
                path.unlink(missing_ok=True)

    def present(self) -> list[str]:
        """Data sets whose photos are there; the ones made here if none is."""
        found = []
        for dataset in downloaded():
            try:
                self.entries(dataset)
            except DatasetError:
                continue
            found.append(dataset)
        return found or generated()

    def options(self, stage: str) -> Callable[[Any], str]:
        """Parameter function: options of a stage that differ from their defaults.

        As a parameter of a job they have it run again when one changes.
        """

        def words(wildcards: Any) -> str:
            config = self.config_for(wildcards.dataset)
            if "extractor" in configuration.STAGE_KEYS[stage]:
                check_weights(config.extractor)
            return shlex.join(configuration.options(config, stage))

        return words

    def config_for(self, dataset: str) -> Config:
        """The configuration for a data set: generated ones have an extractor of their own.

        Of the settings for the extractor it takes those that have an effect on it.
        """
        config = self.config
        if DATASETS[dataset].generator is None or config.demo_extractor == config.extractor.name:
            return config
        shared = config.extractor.model_dump(include=set(family(config.demo_extractor).options))
        extractor = ExtractorSpec(name=config.demo_extractor, **shared)
        return config.model_copy(update={"extractor": extractor})

    def gpus(self, wildcards: Any) -> int:
        """Resource function: GPUs that a job asks for which extracts features of a data set."""
        network = family(self.config_for(wildcards.dataset).extractor.name).network
        return self.training_gpus() if network else 0

    def training_gpus(self) -> int:
        """GPUs that a job asks for which trains or scores a network."""
        device = self.config.machine.device
        if device == "auto":
            return int(shutil.which("nvidia-smi") is not None)
        return int(device != "cpu")
