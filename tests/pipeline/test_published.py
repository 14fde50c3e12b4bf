"""The published configurations by name."""

from pathlib import Path

from pipeline import published

ROOT = Path(__file__).parents[2]


def test_thirteen_configurations_and_what_each_makes():
    found = published.targets("results", ROOT / "configs")
    assert len(found) == 13
    scored = {name: path for name, path in found.items() if "_gzss_eval" in name}
    assert len(scored) == 7
    for name, path in found.items():
        end = "scores.json" if name in scored else "model_final.safetensors"
        assert f"/{name}/" in path and path.endswith(end)
    across = found["zegformer_R101_bs32_60k_vit16_coco-stuff_gzss_eval_847_classes"]
    assert across.startswith("results/zegformer/coco-stuff/")
    assert "/inference/ade20k_full_sem_seg_freq_val_all/" in across
