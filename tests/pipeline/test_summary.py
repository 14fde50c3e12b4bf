"""The last lines of a run: results and the scores of the small networks."""

from __future__ import annotations

from pathlib import Path

from data.sealed import write_json
from pipeline import summary
from pipeline.layout import Layout
from pipeline.stages.demo_zegformer import REPORTED
from pipeline.stages.index import Quarantined, write_quarantine


def test_scores_of_the_demo_are_reported_where_present(tmp_path):
    layout = Layout(str(tmp_path / "datasets"), str(tmp_path), 5)
    assert summary.lines(layout, ["world"]) == []
    index, folder = Path(layout.index("world")), tmp_path / "world"
    index.parent.mkdir(parents=True)
    write_json(index, {"shards": {"shard-00000.h5": {"ids": ["a", "b"]}}})
    Path(layout.report("world")).touch()
    write_quarantine(Path(layout.quarantine("world")), [Quarantined("c", "read", "truncated")])
    lines = summary.lines(layout, ["world"])
    assert lines[0].startswith("world: 3 images in, 2 done, 1 in quarantine")
    assert not any("SAZS" in line or "ZegFormer" in line for line in lines)
    for name, content in {
        "sazs": {"unseen": {"network": 49.94, "fused": 52.3}, "untrained": 8},
        "zegformer": {"zegformer": dict.fromkeys(REPORTED, 20.04),
                      "untrained": dict.fromkeys(REPORTED, 1)},
    }.items():  # fmt: skip
        write_json(folder / name / "summary.json", content)
    told = "\n".join(summary.lines(layout, ["world"]))
    assert "unseen mIoU: network 49.9, fused 52.3 (untrained 8.0)" in told
    assert (
        "IoU: seen 20.0, unseen 20.0, harmonic 20.0 (untrained: seen 1.0, unseen 1.0, harmonic 1.0)"
        in told
    )
    assert str(folder / "zegformer" / "report.html") in told
    damaged = folder / "sazs" / "summary.json"
    damaged.write_text(damaged.read_text().replace("49.94", "94.94"))
    told = "\n".join(summary.lines(layout, ["world"]))
    assert f"{damaged}: its content does not match its digest" in told
    index.write_text("{")
    assert "not a JSON object" in "\n".join(summary.lines(layout, ["world"]))
