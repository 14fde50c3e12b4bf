"""ZegFormer's published configurations as targets: their names, and the files they produce.

Training configurations produce weights. Evaluation configurations score the weights of the training
configuration that their name begins with.
"""

from __future__ import annotations

from pathlib import Path

from models.zegformer.config import load

SETS = ("ade20k-full-847-freq", "coco-stuff", "pascal_voc")
_EVALUATION = "_gzss_eval"


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
