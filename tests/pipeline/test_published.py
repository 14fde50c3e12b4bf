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


def test_descriptions_tell_the_thirteen_targets_apart():
    """By what a configuration sets, so that a wrong set or depth in its file would show."""
    lines = {
        name: published.description(name, ROOT / "configs")
        for name in published.targets("results", ROOT / "configs")
    }
    assert len(set(lines.values())) == 13
    for name, line in lines.items():
        assert f"ResNet-{name.split('_')[1][1:]}" in line
        assert line.startswith("Score" if "_gzss_eval" in name else "Train")
        assert "CLIP ViT-B/16" in line
    assert (
        "on the 15 seen classes of PASCAL VOC, 30,000 steps of 32 images"
        in (lines["zegformer_R101_bs32_30k_vit16_voc"])
    )
    across = lines["zegformer_R101_bs32_60k_vit16_coco-stuff_gzss_eval_847_classes"]
    assert "trained on COCO-Stuff, on all 847 classes of ADE20K-Full" in across
