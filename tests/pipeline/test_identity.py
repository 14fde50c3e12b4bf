"""Whatever is edited between two runs, one run makes the tree that a fresh run makes, and no more.

The edits are drawn by hypothesis. The jobs are the real commands, with the inputs that the rules
name; all are planned first, and what is due is decided as Make and Snakemake decide it: a missing
file, an input that is newer, an earlier job that is due. EIGENSHAPE_EDITS=1000 tries that many.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from click.testing import CliRunner
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from PIL import Image

from pipeline.audit import audit
from pipeline.cli import main
from pipeline.config import KEYS
from pipeline.plan import Plan
from tests.pictures import scene

EDITS = int(os.environ.get("EIGENSHAPE_EDITS", "24"))
STEPS = 6
NAMES = [f"photo{number}.png" for number in range(6)]
NETWORK = {"extractor": "dino_vits16", "weights": "random:1"}
CONVOLUTIONS = {"extractor": "resnet50", "weights": "random:1"}
PIXELS = {"graph": "pixel", "pixel_step": 2}
CHOICES = (
    [{"extractor": "lowlevel"}] * 3
    + [{"extractor": "lowlevel8"}] * 3
    + [NETWORK, {**NETWORK, "weights": "random:2"}, {**NETWORK, "facet": "value"}]
    + [{**NETWORK, "block": -2}, {**NETWORK, "autocast": "bf16"}]
    + [CONVOLUTIONS, {**CONVOLUTIONS, "stages": "layer2"}, {**CONVOLUTIONS, "patch": 8}]
    + [{**CONVOLUTIONS, "enlargement": 2}, {**CONVOLUTIONS, "centring": 0.5}],
    [{}, {"max_patches": 16}],
    [{}] * 6
    + [{"neighbours": 4}, {"colour": "knn", "colour_weight": 0.5}]
    + [{"colour": "knn", "colour_weight": 1.0}, {"colour": "random_walk", "colour_weight": 0.5}]
    + [PIXELS, {**PIXELS, "pixel_step": 4}, {**PIXELS, "max_pixel_nodes": 100}]
    + [{**PIXELS, "pixel_colour_width": 9.0}, {**PIXELS, "pixel_feature_power": 1.0}]
    + [{**PIXELS, "pixel_links": 10}],
    [{"top_k": 4}, {"top_k": 3}],
    [{}, {"drop_trivial": True}],
    [{}, {"solver": "lanczos"}, {"tolerance": 1e-4}],
    [{}, {"seed": 1}],
    [{}, {"path": "staged"}],
    [{"shard_size": 2}, {"shard_size": 3}],
    [{}, {}, {"strict": True}],
    [{}, {"mask_method": "otsu"}, {"mask_method": "kmeans"}, {"mask_method": "components"}],
    [{}, {"upsampling": "guided"}],
    [{}, {"overwrite_masks": True}],
    [{}, {"report_photos": 3}],
    [
        *({}, {"object_method": "fiedler"}, {"object_pairs": 3}, {"object_count": 2}),
        *({"object_method": "tokencut"}, {"object_method": "tokencut", "object_threshold": 0.3}),
    ],
    [{}, {"least_object_area": 0.1}],
    [{}, {"least_object_score": 0.2}],
    [{"refine_objects": False}, {}],
    [{"segments": 2}, {"segments": 3}, {"segments": 2, "segment_method": "kmeans"}],
    [{"clusters": 2}, {"clusters": 3}],
    [{}, {"cluster_dimension": 2}],
    [{"cluster_background": False}, {}],
)
"""Settings of a run are one of each group."""

NOT_CHANGED = {
    **{"datasets_root": "no part of it is read", "folder": "moved", "results_root": "moved"},
    **{"photos": "a folder of images has no lists", "world_photos": "of the generated world"},
    **{"device": "decides rounding and speed alone", "batch_size": "as device"},
    **{"demo_extractor": "of the data sets of the demo"},
    **dict.fromkeys(
        (
            *("namer", "classifier", "namer_weights", "words", "least_name_score"),
            *("name_view", "name_object_weight", "segment_features"),
        ),
        "loads the network that names segments",
    ),
}
COMPARED = (
    *("eigenvectors/*", "masks/*/*.png", "masks/*.csv", "manifest.csv", "quarantine.csv"),
    *("objects*.json", "segments/*", "clusters/*"),
)
SPOILED = (*COMPARED[2:], "records/*.json", "requests/*.json", "eigenvectors/manifest.json")
STAGED = ("features", "laplacian", "eigenvectors")


def test_every_setting_is_changed_by_the_edits():
    changed = {"k" if key == "top_k" else key for group in CHOICES for one in group for key in one}
    assert changed | NOT_CHANGED.keys() == KEYS.keys()
    assert not changed & NOT_CHANGED.keys()


class FailedError(Exception):
    """A command of a run failed."""


@dataclass
class Job:
    """A job of a run: its stage and shard, and the paths of its inputs and results."""

    stage: str
    shard: str | None
    inputs: list[Path]
    results: list[Path]
    due: bool = False

    def __str__(self) -> str:
        return f"{self.stage} {self.shard}" if self.shard else self.stage


class Runner:
    """Runs the jobs that are due for the target `folder`, objects and clusters."""

    def __init__(self, photos: Path, results: Path, keys: dict):
        settings = {"folder": str(photos), "results_root": str(results), **keys}
        self.plan = Plan(settings)
        self.layout = self.plan.layout

    def __call__(self, *, most: int | None = None) -> list[str]:
        """Make what is due, or the first `most` of it; returns the names of the jobs that ran."""
        due = [job for job in self._planned() if job.due][:most]
        for job in due:
            self._run(job)
        return [str(job) for job in due]

    def _planned(self) -> list[Job]:
        jobs = list(self._jobs())
        made_by = {path: job for job in jobs for path in job.results}
        for job in jobs:  # each after those whose results it reads
            earlier = [made_by[path] for path in job.inputs if path in made_by]
            job.due = any(one.due for one in earlier) or _is_older(job.results, job.inputs)
        return jobs

    def _jobs(self) -> Iterator[Job]:
        numbers = self.plan.shards("folder")
        for stage in ("manifest", "shard", "masks", "index", "report"):
            for number in numbers if stage in ("shard", "masks") else [None]:
                yield self._job(stage, number, numbers)
        for stage in ("objects", "segments", "clusters"):
            yield self._job(stage, None, numbers)

    def _job(self, stage: str, shard: str | None, numbers: list[str]) -> Job:
        where = SimpleNamespace(dataset="folder") if shard is None else _shard(shard)
        inputs = [Path(self.plan.request(stage)(where))]
        inputs += self.layout.inputs(stage, "folder", shard, numbers)
        return Job(stage, shard, inputs, self.layout.results(stage, "folder", shard))

    def _run(self, job: Job) -> None:
        where = SimpleNamespace(dataset="folder", shard=job.shard)
        commands = [job.stage]
        if job.stage == "shard":
            commands = list(STAGED) if self.plan.config.path == "staged" else ["fused"]
        for command in commands:
            words = [command, "--dataset", "folder", *self.plan.options(command)(where).split()]
            words += ["--shard", str(int(job.shard))] if job.shard else []
            outcome = CliRunner().invoke(main, words)
            if outcome.exit_code:
                assert isinstance(outcome.exception, SystemExit), repr(outcome.exception)
                raise FailedError(outcome.output.splitlines()[-1])
        if job.stage == "shard":  # what Snakemake removes because it is marked temporary
            for kind in STAGED[:2]:
                Path(self.layout.shard("folder", kind, job.shard)).unlink(missing_ok=True)
                Path(self.layout.record("folder", kind, job.shard)).unlink(missing_ok=True)


def _shard(number: str) -> SimpleNamespace:
    return SimpleNamespace(dataset="folder", shard=number)


def _is_older(results: list[Path], inputs: list[Path]) -> bool:
    """Whether a result is missing or older than an input."""
    if not all(path.exists() for path in results):
        return True
    oldest = min(path.stat().st_mtime_ns for path in results)
    return any(path.stat().st_mtime_ns > oldest for path in inputs if path.exists())


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
        self.choices = [group[0] for group in CHOICES]
        self.number = 0
        for name in NAMES[:3]:
            self._write(name)

    def teardown(self):
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    @property
    def keys(self):
        return {key: value for choice in self.choices for key, value in choice.items()}

    def _write(self, name, content=None):
        self.number += 1
        path = self.photos / name
        if content is None:
            Image.fromarray(scene(40, 56, self.number)).save(path)
        else:
            path.write_bytes(content)
        self._touch(path)

    def _touch(self, path):
        self.clock += 7
        os.utime(path, (self.clock, self.clock))

    def _present(self):
        return sorted(path for path in self.photos.rglob("*") if path.is_file())

    def _one(self, number):
        return self._present()[number % len(self._present())]

    @rule(name=st.sampled_from(NAMES))
    def add_or_replace(self, name):
        self._write(name)

    @rule(name=st.sampled_from(NAMES))
    def damage(self, name):
        self._write(name, b"not an image")

    @rule(number=st.integers(0, 5))
    def remove(self, number):
        if len(self._present()) > 1:
            self._one(number).unlink()

    @rule(number=st.integers(0, 5), name=st.sampled_from(NAMES))
    def rename(self, number, name):
        self._one(number).rename(self.photos / name)

    @rule(first=st.integers(0, 5), second=st.integers(0, 5))
    def swap(self, first, second):
        one, other = self._one(first), self._one(second)
        if one != other:
            one.rename(self.root / "swapped")
            other.rename(one)
            (self.root / "swapped").rename(other)

    @rule(number=st.integers(0, 5))
    def move_into_a_folder(self, number):
        path = self._one(number)
        (self.photos / "below").mkdir(exist_ok=True)
        path.rename(self.photos / "below" / path.name)

    @rule(number=st.integers(0, 5))
    def touch(self, number):
        self._touch(self._one(number))

    @rule()
    def move_photos(self):
        self.number += 1
        self.photos = self.photos.rename(self.root / f"photos{self.number}")

    def _choose(self, data, group):
        self.choices[group] = data.draw(st.sampled_from(CHOICES[group]))

    @rule(data=st.data(), group=st.integers(0, len(CHOICES) - 1))
    def change_setting(self, data, group):
        self._choose(data, group)

    @rule(data=st.data(), group=st.integers(0, len(CHOICES) - 1), most=st.integers(1, 6))
    def begin_with_another_setting(self, data, group, most):
        """A run that was stopped; then, perhaps, the setting is put back."""
        before = list(self.choices)
        self._choose(data, group)
        attempt(Runner(self.photos, self.results, self.keys), most=most)
        if data.draw(st.booleans()):
            self.choices = before

    def _results_like(self, pattern):
        paths = (self.results / "folder").glob(pattern)
        return sorted(path for path in paths if path.is_file())

    @rule(pattern=st.sampled_from([*SPOILED, COMPARED[0], COMPARED[1], "report.html"]))
    def delete_a_result(self, pattern):
        if found := self._results_like(pattern):
            found[self.number % len(found)].unlink()

    @rule(pattern=st.sampled_from(SPOILED), cut=st.booleans())
    def spoil_a_result(self, pattern, cut):
        found = [path for path in self._results_like(pattern) if path.suffix != ".png"]
        if found:
            path = found[self.number % len(found)]
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2] if cut else content[:-9] + b"x" * 9)

    @rule(name=st.sampled_from(["eigenvectors", "masks", "records", "requests", "segments"]))
    def delete_a_folder(self, name):
        shutil.rmtree(self.results / "folder" / name)

    @rule()
    def move_results(self):
        self.number += 1
        self.results = self.results.rename(self.root / f"results{self.number}")

    @rule(seed=st.integers(0, 99))
    def copy_results(self, seed):
        """As programs do that keep no times."""
        self.move_results()
        paths = sorted(path for path in self.results.rglob("*") if path.is_file())
        for path in paths:
            moment = 1_700_000_000 + random.Random(f"{seed} {path.name}").randrange(1000)
            os.utime(path, (moment, moment))

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
        fresh = self.root / "fresh"
        outcome = attempt(Runner(self.photos, self.results, self.keys))
        expected = attempt(Runner(self.photos, fresh, self.keys))
        try:
            event(f"{'failed' if expected else 'made'} {expected[:60]}")
            assert outcome.replace(str(self.results), str(fresh)) == expected
            if not expected:
                self._compare(fresh)
        finally:
            shutil.rmtree(fresh)

    def _compare(self, fresh):
        made, expected = files(self.results), files(fresh)
        assert made.keys() == expected.keys()
        differing = [name for name in made if made[name] != expected[name]]
        assert not differing
        found = audit(self.results / "folder", full=True)
        assert [finding for finding in found if finding.problems] == []
        again = Runner(self.photos, self.results, self.keys)()
        assert again == [], f"made again for nothing: {again}"


def attempt(run: Runner, **how) -> str:
    """Run; returns the error, "" if there is none."""
    try:
        run(**how)
    except FailedError as error:
        return str(error)
    return ""


TestEdits = Edits.TestCase
TestEdits.settings = settings(
    max_examples=max(1, EDITS // STEPS),
    stateful_step_count=STEPS,
    derandomize=EDITS <= 100,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def test_only_the_shard_that_an_edit_touches_is_made_again(tmp_path):
    photos, results = tmp_path / "photos", tmp_path / "results"
    photos.mkdir()
    for number in range(6):
        Image.fromarray(scene(40, 56, number)).save(photos / f"{number}.png")
    keys = {"extractor": "lowlevel", "shard_size": 2, "top_k": 3, "segments": 2, "clusters": 2}
    keys["cluster_background"] = False
    Runner(photos, results, keys)()
    Image.fromarray(np.roll(scene(40, 56, 3), 5, axis=0)).save(photos / "3.png")
    assert Runner(photos, results, keys)() == [
        "shard 00001", "masks 00001", "index", "report", "objects", "segments", "clusters"
    ]  # fmt: skip
    keys["mask_method"] = "otsu"
    made = Runner(photos, results, keys)()
    assert not any(job.startswith("shard") for job in made)
    assert sum(job.startswith("masks") for job in made) == 3
    keys["path"] = "staged"
    assert Runner(photos, results, keys)() == []
