"""ZegFormer's published configurations as targets: their names, and the files they produce.

Training configurations produce weights. Evaluation configurations score the weights of the training
configuration that their name begins with.
"""

from __future__ import annotations

from pathlib import Path

from models.zegformer.config import load

SETS = ("ade20k-full-847-freq", "coco-stuff", "pascal_voc")
_EVALUATION = "_gzss_eval"
_DATA = {
    "coco": ("COCO-Stuff", "coco-stuff"),
    "pascal": ("PASCAL VOC", "voc"),
    "ade20k": ("ADE20K-Full", "ade20k-full"),
}
"""First word of a data set's name -> its title, and what `pipeline prepare` calls it."""


def targets(results_root: str, configs: str | Path = "configs") -> dict[str, str]:
    """Name of a configuration -> file that `snakemake NAME` writes.

    Parameters
    ----------
    results_root : str
    configs : path
        Folder of the configurations, with a subfolder per data set.
    """
    files = {}
    for folder in SETS:
        for path in sorted((Path(configs) / folder).glob("zegformer_R*.yaml")):
            result = "model_final.safetensors"
            if _EVALUATION in path.stem:
                (tested,) = load(path).DATASETS.TEST
                result = f"inference/{tested}/scores.json"
            files[path.stem] = f"{results_root}/zegformer/{folder}/{path.stem}/{result}"
    return files


def description(name: str, configs: str | Path = "configs") -> str:
    """What the target `name` does, on which data, and what it needs; for `snakemake --list`."""
    (path,) = Path(configs).glob(f"*/{name}.yaml")
    settings = load(path)
    model = f"ZegFormer (ResNet-{settings.MODEL.RESNETS.DEPTH})"
    classes = settings.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    steps, images = settings.SOLVER.MAX_ITER, settings.SOLVER.IMS_PER_BATCH
    trained, prepared = _data(settings.DATASETS.TRAIN)
    budget = f"{steps:,} steps of {images} images"
    if _EVALUATION not in name:
        weights = settings.MODEL.WEIGHTS.rpartition("/")[2]
        return (
            f"Train {model} on the {classes} seen classes of {trained}, {budget}; "
            f"needs data from `prepare {prepared}`, {weights} and CLIP ViT-B/16"
        )
    tested, prepared = _data(settings.DATASETS.TEST)
    source = f"trained for {budget}" if tested == trained else f"trained on {trained}"
    return (
        f"Score {model}, {source}, on all {classes} classes of {tested}, with CLIP on the crops; "
        f"trains first if there are no weights; needs data from `prepare {prepared}` and CLIP "
        "ViT-B/16"
    )


def _data(sets: tuple[str, ...]) -> tuple[str, str]:
    return _DATA[sets[0].partition("_")[0]]
