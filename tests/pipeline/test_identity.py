"""Whatever is edited between two runs, one run makes the tree that a fresh run makes, and no more.

The edits are drawn by hypothesis. The jobs are the real commands, in the order and with the inputs
that the rules name; what is due is decided as Make and Snakemake decide it, by file times.
EIGENSHAPE_EDITS=1000 tries that many.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from click.testing import CliRunner
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from PIL import Image

from pipeline.audit import audit
from pipeline.cli import main
from pipeline.plan import Plan
from tests.pictures import scene

EDITS = int(os.environ.get("EIGENSHAPE_EDITS", "30"))
STEPS = 6
NAMES = [f"photo{number}.png" for number in range(6)]
KEYS = {
    "top_k": [2, 3],
    "extractor": ["lowlevel", "lowlevel8"],
    "shard_size": [2, 3],
    "mask_method": ["zero", "otsu"],
    "seed": [0, 1],
    "tolerance": [1e-5, 1e-4],
    "report_photos": [3, 200],
    "drop_trivial": [False, True],
    "path": ["fused", "staged"],
}
COMPARED = ("eigenvectors/*", "masks/*/*.png", "masks/*.csv", "manifest.csv", "quarantine.csv")


class Runner:
    """Runs the jobs of the target `folder` that are due, by the times of their files."""

    def __init__(self, photos: Path, results: Path, keys: dict):
        settings = {"folder": str(photos), "results_root": str(results), **keys}
        self.plan = Plan(settings)
        self.layout = self.plan.layout
        self.made: list[str] = []

    def __call__(self) -> list[str]:
        """Make what is due; returns the names of the jobs that ran."""
        numbers = self.plan.shards("folder")
        once = SimpleNamespace(dataset="folder")
        of_shard = [SimpleNamespace(dataset="folder", shard=number) for number in numbers]
        self._job("manifest", once, [self._request("manifest", once)])
        for where in of_shard:
            inputs = [self._request("shard", where)]
            self._job("shard", where, inputs)
        shards = [str(self.layout.results("shard", "folder", n)[0]) for n in numbers]
        records = [str(self.layout.results("shard", "folder", n)[1]) for n in numbers]
        for where, shard in zip(of_shard, shards, strict=True):
            self._job("masks", where, [self._request("masks", where), shard])
        listed = self.layout.manifest("folder")
        inputs = [self._request("index", once), listed, *shards, *records]
        self._job("index", once, inputs)
        index = [str(path) for path in self.layout.results("index", "folder")]
        self._job("report", once, [self._request("report", once), listed, *index])
        return self.made

    def _request(self, stage, where):
        return self.plan.request(stage)(where)

    def _job(self, stage, where, inputs):
        shard = getattr(where, "shard", None)
        outputs = self.layout.results(stage, "folder", shard)
        if all(path.exists() for path in outputs):
            oldest = min(path.stat().st_mtime_ns for path in outputs)
            if all(Path(path).stat().st_mtime_ns <= oldest for path in inputs):
                return
        self.made.append(f"{stage} {shard}" if shard else stage)
        staged = ("features", "laplacian", "eigenvectors")
        path = self.plan.config.path
        commands = (staged if path == "staged" else ("fused",)) if stage == "shard" else (stage,)
        for command in commands:
            words = [command, "--dataset", "folder", *self.plan.options(command)(where).split()]
            words += ["--shard", str(int(shard))] if shard else []
            outcome = CliRunner().invoke(main, words)
            assert outcome.exit_code == 0, f"{words}: {outcome.output} {outcome.exception!r}"
        for kind in staged[:2]:  # what Snakemake removes because it is marked temporary
            if shard:
                Path(self.layout.shard("folder", kind, shard)).unlink(missing_ok=True)
                Path(self.layout.record("folder", kind, shard)).unlink(missing_ok=True)


def files(results: Path) -> dict[str, bytes]:
    """What counts of a results folder, by name."""
    root = results / "folder"
    paths = {path for pattern in COMPARED for path in root.glob(pattern) if path.is_file()}
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


class Edits(RuleBasedStateMachine):
    """A folder of images, a results folder, and edits to both."""

    @initialize()
    def start(self):
        self.root = Path(tempfile.mkdtemp())
        self.photos, self.results = self.root / "photos", self.root / "results"
        self.photos.mkdir()
        self.clock = 1_700_000_000
        self.keys = {key: values[0] for key, values in KEYS.items()}
        self.number = 0
        for name in NAMES[:3]:
            self._write(name)
        self.due = True

    def teardown(self):
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    def _write(self, name, content=None):
        self.number += 1
        path = self.photos / name
        if content is None:
            Image.fromarray(scene(40, 56, self.number)).save(path)
        else:
            path.write_bytes(content)
        self.clock += 7
        os.utime(path, (self.clock, self.clock))

    def _present(self):
        return sorted(self.photos.iterdir())

    @rule(name=st.sampled_from(NAMES))
    def add_or_replace(self, name):
        self._write(name)

    @rule(name=st.sampled_from(NAMES))
    def damage(self, name):
        self._write(name, b"not an image")

    @rule(number=st.integers(0, 5))
    def remove(self, number):
        if len(self._present()) > 1:
            self._present()[number % len(self._present())].unlink()

    @rule(number=st.integers(0, 5), name=st.sampled_from(NAMES))
    def rename(self, number, name):
        self._present()[number % len(self._present())].rename(self.photos / name)

    @rule(number=st.integers(0, 5))
    def touch(self, number):
        self.clock += 7
        path = self._present()[number % len(self._present())]
        os.utime(path, (self.clock, self.clock))

    @rule(key=st.sampled_from(sorted(KEYS)), which=st.integers(0, 1))
    def change_setting(self, key, which):
        self.keys[key] = KEYS[key][which]

    @rule(pattern=st.sampled_from([*COMPARED, "records/*.json", "requests/*.json", "report.html"]))
    def delete_a_result(self, pattern):
        found = sorted(path for path in (self.results / "folder").glob(pattern) if path.is_file())
        if found:
            found[self.number % len(found)].unlink()

    @rule()
    def move_results(self):
        if self.results.exists():
            self.number += 1
            self.results = self.results.rename(self.root / f"results{self.number}")

    @rule(hours=st.sampled_from([-30, 30]))
    def shift_clock_of_results(self, hours):
        """As an archive or another machine does."""
        for path in self.results.rglob("*"):
            moment = path.stat().st_mtime + 3600 * hours
            os.utime(path, (moment, moment))

    @invariant()
    def one_run_makes_what_a_fresh_run_makes(self):
        if not hasattr(self, "root"):
            return
        Runner(self.photos, self.results, self.keys)()
        fresh = self.root / "fresh"
        Runner(self.photos, fresh, self.keys)()
        made, expected = files(self.results), files(fresh)
        assert made.keys() == expected.keys()
        differing = [name for name in made if made[name] != expected[name]]
        assert not differing
        assert [f for f in audit(self.results / "folder", full=True) if f.problems] == []
        again = Runner(self.photos, self.results, self.keys)()
        assert again == [], f"made again for nothing: {again}"
        shutil.rmtree(fresh)


TestEdits = Edits.TestCase
TestEdits.settings = settings(
    max_examples=max(1, EDITS // STEPS), stateful_step_count=STEPS, derandomize=EDITS <= 100
)


def test_only_the_shard_that_an_edit_touches_is_made_again(tmp_path):
    photos, results = tmp_path / "photos", tmp_path / "results"
    photos.mkdir()
    for number in range(6):
        Image.fromarray(scene(40, 56, number)).save(photos / f"{number}.png")
    keys = {"extractor": "lowlevel", "shard_size": 2, "top_k": 2}
    Runner(photos, results, keys)()
    Image.fromarray(np.roll(scene(40, 56, 3), 5, axis=0)).save(photos / "3.png")
    assert Runner(photos, results, keys)() == [
        "shard 00001", "masks 00001", "index", "report"
    ]  # fmt: skip
    keys["mask_method"] = "otsu"
    made = Runner(photos, results, keys)()
    assert not any(job.startswith("shard") for job in made)
    assert sum(job.startswith("masks") for job in made) == 3
    keys["path"] = "staged"
    assert Runner(photos, results, keys)() == []
