"""ZegFormer's published configurations as targets: the name of each, and the file that it makes.

Training configurations make weights. Evaluation configurations score the weights of the training
configuration that their name begins with.
"""

from __future__ import annotations

from pathlib import Path

from models.zegformer.config import load

SETS = ("ade20k-full-847-freq", "coco-stuff", "pascal_voc")
_EVALUATION = "_gzss_eval"


def targets(results_root: str, configs: str | Path = "configs") -> dict[str, str]:
    """Configuration's name -> what `snakemake NAME` makes.

    Parameters
    ----------
    configs : folder of the configurations, by data set
    """
    found = {}
    for folder in SETS:
        for path in sorted((Path(configs) / folder).glob("zegformer_R*.yaml")):
            made = "model_final.safetensors"
            if _EVALUATION in path.stem:
                (tested,) = load(path).DATASETS.TEST
                made = f"inference/{tested}/scores.json"
            found[path.stem] = f"{results_root}/zegformer/{folder}/{path.stem}/{made}"
    return found
