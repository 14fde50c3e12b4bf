"""Paths of a run's files, for the rules and the commands.

The rules use Snakemake's wildcards, "{dataset}" and "{shard}", for the names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.datasets import DATASETS

if TYPE_CHECKING:
    from pipeline.config import Config

_FILE_OF = {"photos": "made"}
_MORE_FILES = {
    "objects": ("object_images",),
    "clusters": ("centres", "cluster_page"),
    "names": ("name_images",),
}
WITH_MAPS = ("segments", "clusters", "names")
"""Stages with their own folder, for label maps of all images."""


@dataclass(frozen=True)
class Layout:
    """Paths of a run.

    Attributes
    ----------
    datasets_root, results_root : str
        As in the configuration.
    k : int
        Masks per image; part of the mask folder's name, as published.
    """

    datasets_root: str
    results_root: str
    k: int

    @classmethod
    def of(cls, config: Config) -> Layout:
        """The paths of a configuration."""
        return cls(config.datasets_root, config.results_root, config.solve.k)

    def made(self, dataset: str) -> str:
        """Empty file, written when the images of a generated data set are complete."""
        return f"{self.results_root}/{dataset}/photos.done"

    def manifest(self, dataset: str) -> str:
        return f"{self.results_root}/{dataset}/manifest.csv"

    def shard(self, dataset: str, kind: str, shard: int | str) -> str:
        """Packed file of a kind: "features", "laplacian" or "eigenvectors"."""
        return f"{self.results_root}/{dataset}/{kind}/shard-{shard_name(shard)}.h5"

    def record(self, dataset: str, stage: str, shard: int | str | None = None) -> str:
        """Record of a job; that of a shard is "eigenvectors", fused or staged."""
        return f"{self.results_root}/{dataset}/records/{_name(stage, shard)}.json"

    def request(self, dataset: str, stage: str, shard: int | str | None = None) -> str:
        """Request to a job, see `pipeline.requests`."""
        return f"{self.results_root}/{dataset}/requests/{_name(stage, shard)}.json"

    def log(self, dataset: str, rule: str, shard: int | str = "", suffix: str = ".log") -> str:
        """Output of a job; with the suffix ".jsonl" its time and memory."""
        name = f"{rule}-{shard_name(shard)}" if shard != "" else rule
        return f"{self.results_root}/{dataset}/logs/{name}{suffix}"

    def mask_list(self, dataset: str, shard: int | str) -> str:
        """List of the images of a shard whose masks are written."""
        return f"{self.results_root}/{dataset}/masks/shard-{shard_name(shard)}.csv"

    def index(self, dataset: str) -> str:
        return f"{self.results_root}/{dataset}/eigenvectors/manifest.json"

    def quarantine(self, dataset: str) -> str:
        return f"{self.results_root}/{dataset}/quarantine.csv"

    def provenance(self, dataset: str) -> str:
        return f"{self.results_root}/{dataset}/provenance.json"

    def results(self, stage: str, dataset: str, shard: str | None = None) -> list[Path]:
        """The files that a job makes, in the order of its rule."""
        if stage == "shard":
            files = [
                self.shard(dataset, "eigenvectors", shard or ""),
                self.record(dataset, "eigenvectors", shard),
            ]
        elif stage == "masks":
            files = [self.mask_list(dataset, shard or "")]
        elif stage == "index":
            files = [self.index(dataset), self.quarantine(dataset), self.provenance(dataset)]
        else:
            files = [getattr(self, _FILE_OF.get(stage, stage))(dataset)]
        files += [getattr(self, name)(dataset) for name in _MORE_FILES.get(stage, ())]
        return [Path(file) for file in files]

    def folder(self, stage: str, dataset: str) -> Path | None:
        """Folder of which all files are results of a stage; None for most stages."""
        return self.results(stage, dataset)[0].parent if stage in WITH_MAPS else None

    def inputs(
        self, stage: str, dataset: str, shard: str | None = None, shards: Iterable[str] = ()
    ) -> list[Path]:
        """The files that a job reads, but for images and its request.

        Parameters
        ----------
        shard : str, optional
            Of a job over a shard.
        shards : iterable of str
            All shards of the data set.
        """
        files: list[str | Path]
        if stage in ("manifest", "shard"):
            files = [self.made(dataset)] if DATASETS[dataset].generator is not None else []
        elif stage == "masks":
            files = [self.shard(dataset, "eigenvectors", shard or "")]
        elif stage == "index":
            files = [self.manifest(dataset)]
            files += [path for n in shards for path in self.results("shard", dataset, n)]
        elif stage == "audit":
            files = [*self.inputs("report", dataset), self.report(dataset)]
            files += [path for n in shards for path in self.results("shard", dataset, n)]
            files += [self.mask_list(dataset, n) for n in shards]
        elif stage == "report":
            files = [self.manifest(dataset), *self.results("index", dataset)]
        elif stage in ("objects", "segments", "words"):
            files = [self.manifest(dataset), self.index(dataset)]
        elif stage == "discovery":
            files = [self.manifest(dataset), self.objects(dataset), self.segments(dataset)]
        elif stage in ("clusters", "names"):
            files = list(self.results("segments", dataset))
        else:
            files = []
        return [Path(file) for file in files]

    def audit(self, dataset: str) -> str:
        """Outcome of the audit that ends a run."""
        return f"{self.results_root}/{dataset}/audit.json"

    def report(self, dataset: str) -> str:
        return f"{self.results_root}/{dataset}/report.html"

    def objects(self, dataset: str) -> str:
        """COCO results."""
        return f"{self.results_root}/{dataset}/objects.json"

    def object_images(self, dataset: str) -> str:
        """The images to which the COCO results refer."""
        return f"{self.results_root}/{dataset}/objects.images.json"

    def segments(self, dataset: str) -> str:
        """Features of all segments; label maps `{id}.png` are in the same folder."""
        return f"{self.results_root}/{dataset}/segments/features.h5"

    def clusters(self, dataset: str) -> str:
        """Scores of the clusters; label maps `{id}.png` are in the same folder."""
        return f"{self.results_root}/{dataset}/clusters/clusters.json"

    def centres(self, dataset: str) -> str:
        """Centres of the clusters."""
        return f"{self.results_root}/{dataset}/clusters/centres.npz"

    def cluster_page(self, dataset: str) -> str:
        return f"{self.results_root}/{dataset}/clusters/clusters.html"

    def name_images(self, dataset: str) -> str:
        """The images to which the named masks refer."""
        return f"{self.results_root}/{dataset}/names/names.images.json"

    def names(self, dataset: str) -> str:
        """Masks with their names; label maps `{id}.png` are in the same folder."""
        return f"{self.results_root}/{dataset}/names/names.json"

    def words(self, dataset: str) -> str:
        """Page of images segmented by words."""
        return f"{self.results_root}/{dataset}/words.html"

    def discovery(self, dataset: str) -> str:
        """Page of objects, named segments and joint graphs."""
        return f"{self.results_root}/{dataset}/discovery.html"

    def demo_page(self) -> str:
        """Page with links to all pages of the demo."""
        return f"{self.results_root}/demo.html"

    def tree(self, dataset: str) -> Path:
        """Root of a data set's tree."""
        if DATASETS[dataset].generator is not None:
            return Path(self.results_root) / dataset / "photos"
        return Path(self.datasets_root)

    def masks(self, dataset: str) -> Path:
        """Folder of `{id}_k{0..K-1}.png`; in the data set's tree where published code reads it."""
        name = f"{dataset}_k{self.k}"
        if DATASETS[dataset].masks_in_tree:
            return DATASETS[dataset].open(self.tree(dataset)).root / name
        return Path(self.results_root) / dataset / "masks" / name


def shard_name(number: int | str) -> str:
    """Number of a shard as in file names; a wildcard is returned unchanged.

    >>> shard_name(7), shard_name("{shard}")
    ('00007', '{shard}')
    """
    return number if isinstance(number, str) else f"{number:05d}"


def _name(stage: str, shard: int | str | None) -> str:
    return stage if shard is None else f"{stage}-{shard_name(shard)}"
