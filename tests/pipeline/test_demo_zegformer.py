"""The demo on the generated world: training, three networks' scores, summary and page."""

from __future__ import annotations

import numpy as np

from data.errors import RunError
from data.files import without_nan
from data.png import write_mask
from data.sealed import read_json
from data.synthetic import world
from pipeline.stages import demo_zegformer as zegformer_demo


def test_demo_reports_untrained_trained_and_refined(tmp_path, monkeypatch):
    data = world.write(tmp_path / "world", photos=28, workers=1).parent
    short = tmp_path / "short.yaml"
    short.write_text(f"_BASE_: {zegformer_demo.CONFIG}\nSOLVER: {{MAX_ITER: 1, WARMUP_ITERS: 0}}\n")
    monkeypatch.setattr(zegformer_demo, "CONFIG", short)
    ids = (data / "VOC2012/ImageSets/Segmentation/val.txt").read_text().split()
    mask = np.zeros(world.PHOTO_SIZE, bool)
    mask[60:180, 80:240] = True
    for photo_id in ids:
        write_mask(tmp_path / "eig" / f"{photo_id}_k0.png", mask)
    out = tmp_path / "out"
    summary = zegformer_demo.run(data, out, eigenvectors=tmp_path / "eig", device="cpu")
    assert list(summary) == ["zegformer", "refined", "untrained"]
    written = read_json(out / zegformer_demo.SUMMARY, RunError)
    assert written == {name: without_nan(own) for name, own in summary.items()}
    for own in summary.values():
        assert set(own) == set(zegformer_demo.REPORTED)
        assert 0 <= own["pACC"] <= 100
    page = (out / zegformer_demo.PAGE).read_text()
    assert "harmonic mean" in page and "striped red disc" in page and ids[0] in page
