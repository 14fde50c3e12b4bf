"""Commands that write results, the folders that they start from, and what they must leave."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data import weight_files
from pipeline import provenance
from tests.fault import material
from train import history

_STAGED = {"path": "staged"}
TRAINING = ("SAZS training", "ZegFormer training")
STAGES = (
    *("photos", "manifest", "fused", "features", "laplacian", "eigenvectors"),
    *("masks", "index", "report", "objects", "segments", "clusters"),
)
_SAZS = (
    *("--arch", "drn_d_22_slim", "--init", "none", "--crop-size", "32", "--batch_size", "4"),
    *("--epochs", "1", "--lr", "0.01", "--workers", "0", "--input-side", "0", "--device", "cpu"),
    *("--validation-share", "0.5"),
)
_ZEGFORMER = {
    "SOLVER.MAX_ITER": 4,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.IMS_PER_BATCH": 2,
    "TEST.EVAL_PERIOD": 0,
    "DATALOADER.NUM_WORKERS": 0,
}


@dataclass(frozen=True)
class Scenario:
    """A command in a folder.

    Attributes
    ----------
    name : str
    start : callable
        Write what the command needs into an empty folder.
    run : callable
        Run the command; raises what it raises.
    """

    name: str
    start: Callable[[Path], None]
    run: Callable[[Path], None]


def all_of(names: tuple[str, ...] = (*STAGES, *TRAINING)) -> list[Scenario]:
    """The scenarios of some names."""
    return [_scenario(name) for name in names]


def _scenario(name: str) -> Scenario:
    if name == "SAZS training":
        return Scenario(name, _write_world, _train_sazs)
    if name == "ZegFormer training":
        return Scenario(name, _write_world, _train_zegformer)
    staged, further = name in ("features", "laplacian", "eigenvectors"), name in material.FURTHER
    changes = _STAGED if staged else material.DISCOVERING if further else {}

    def start(folder: Path) -> None:
        material.write_photos(folder / "photos", 4)
        if name != "photos":
            material.make_results(folder / "photos", folder / "results", **changes)
        if further:
            material.make_discovery(folder / "photos", folder / "results")

    def run(folder: Path) -> None:
        settings = material.settings_for(folder / "photos", folder / "results", **changes)
        if name == "photos":
            settings["world_photos"] = 20
        dataset = "world" if name == "photos" else "folder"
        material.run(material.command(name, settings, dataset=dataset))

    return Scenario(name, start, run)


def _write_world(folder: Path) -> None:
    from data.synthetic import world

    world.write(folder / "world", photos=28, workers=1)


def _train_sazs(folder: Path) -> None:
    import sazs

    voc = folder / "world" / "VOC2012"
    files = ["--names", str(voc / "class_names.txt")]
    files += ["--embeddings", str(voc / "text_embeddings.npy")]
    where = ["--data-dir", str(folder / "world"), "--filename", str(folder / "out")]
    sazs.main(["train", *_SAZS, *files, *where], standalone_mode=False)


def _train_zegformer(folder: Path) -> None:
    from models.zegformer.config import load
    from pipeline.stages.demo_zegformer import CONFIG, _prepared
    from train.distributed import World
    from train.zegformer import train

    overrides = _prepared(folder / "world", folder / "out", "cpu")
    overrides += [str(part) for pair in _ZEGFORMER.items() for part in pair]
    train.train(load(CONFIG, overrides), World(0, 1, torch.device("cpu")), resume=True)


def fingerprint(folder: Path) -> dict[str, str]:
    """Digest of each file by relative path, without what differs from run to run."""
    return {
        str(path.relative_to(folder)): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "tensorboard" not in path.parts and not _is_input(path, folder)
    }


def _is_input(path: Path, folder: Path) -> bool:
    return path.relative_to(folder).parts[0] in ("photos", "world")


def _digest(path: Path) -> str:
    if path.name.startswith("."):
        return ""
    if path.parent.name == "records":
        # Seconds, and digests of files that hold seconds.
        varying = dict.fromkeys(("seconds", "sha256", "inputs", "results"))
        return _as_text({**json.loads(path.read_text()), **varying})
    if path.name == history.FILE:
        return _as_text([row["step"] for row in history.read(path.parent)])
    if path.name == history.CURVES or (path.suffix == ".html" and path.parent.name != "folder"):
        return ""
    if path.name.endswith((".pth.tar", ".safetensors")):
        found = weight_files.read(path)
        return _as_text([dict(found.content), dict(found.recipe)])
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _as_text(value: Any) -> str:
    return hashlib.sha256(material.as_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class Undisturbed:
    """Fingerprints of the folder before and after a run without a fault, and its seconds."""

    before: dict[str, str]
    after: dict[str, str]
    seconds: float

    def judge(self, between: dict[str, str], after: dict[str, str]) -> tuple[str, str]:
        """The count that a disturbed run adds to, and an example; "" if all is well.

        Parameters
        ----------
        between, after : dict
            Fingerprints after the disturbed run, and after the run that followed it.
        """
        if more := sorted(after.keys() - self.after.keys()):
            return "leftovers", f"{more[:3]}"
        if differing := sorted(n for n, found in self.after.items() if after.get(n) != found):
            return "lost", f"{differing[:3]} differ"
        # Checkpoints and histories of a training run are of the step that it had reached.
        names = {n for n in between if not (n.startswith("out/") or Path(n).name.startswith("."))}
        states = {name: (self.before.get(name), self.after.get(name)) for name in names}
        if faked := sorted(name for name in names if between[name] not in states[name]):
            return "faked", f"{faked[:3]} of the disturbed run"
        return "", ""


_HEAVY = (
    *("cv2", "matplotlib.figure", "pyamg", "scipy.sparse.linalg", "pipeline.chain"),
    *(f"pipeline.stages.{name}" for name in ("shard", "masks", "index", "report", "manifest")),
    *(f"pipeline.stages.{name}" for name in material.FURTHER),
)


class Bench:
    """One folder in which scenarios start again and again."""

    def __init__(self, root: Path, scenarios: list[Scenario]) -> None:
        for name in _HEAVY:  # once here, not in each process
            importlib.import_module(name)
        provenance.software()  # kept from here on, whatever is committed meanwhile
        self.folder, self.scenarios = root / "work", scenarios
        self._saved = root
        self._undisturbed: dict[str, Undisturbed] = {}
        self._errors = -1
        self.error = "", ""  # class and message of the error that ended the last run

    def reset(self, scenario: Scenario) -> None:
        """Put the folder into the state in which a scenario starts."""
        saved = self._saved / scenario.name
        shutil.rmtree(self.folder, ignore_errors=True)
        if not saved.exists():
            self.folder.mkdir()
            if self.wait(self._fork(lambda: scenario.start(self.folder))):
                raise RuntimeError(f"{scenario.name} could not be prepared: {self.error}")
            shutil.copytree(self.folder, saved)
            return
        shutil.copytree(saved, self.folder)

    def undisturbed(self, scenario: Scenario) -> Undisturbed:
        """What a run without a fault starts from and leaves; it runs once."""
        if scenario.name not in self._undisturbed:
            self.reset(scenario)
            before, started = fingerprint(self.folder), time.monotonic()
            status = self.wait(self.start(scenario))
            seconds = time.monotonic() - started
            if status != 0:
                raise RuntimeError(f"{scenario.name} failed without a fault: {self.error}")
            found = Undisturbed(before, fingerprint(self.folder), seconds)
            self._undisturbed[scenario.name] = found
        return self._undisturbed[scenario.name]

    def start(self, scenario: Scenario, before: Callable[[], None] = lambda: None) -> int:
        """Run a scenario in a process of its own; returns its id."""

        def work() -> None:
            before()
            scenario.run(self.folder)

        return self._fork(work)

    def _fork(self, work: Callable[[], None]) -> int:
        """All work is done in forked processes: this one starts no threads, which break forks."""
        self._errors, writes = os.pipe()  # a full disk takes no file
        process = os.fork()
        if process:
            os.close(writes)
            return process
        try:
            # On one core nothing starts processes of its own, which a kill would leave behind.
            os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})
            torch.set_num_threads(1)
            work()
        except BaseException as error:
            os.write(writes, f"{type(error).__qualname__}\n{error}"[:4000].encode())
            os._exit(1)
        os._exit(0)

    def wait(self, process: int) -> int:
        """Exit status of the process that `start` returned; sets `error`."""
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with os.fdopen(self._errors, "rb") as pipe:
            kind, _, message = pipe.read().decode(errors="replace").partition("\n")
        self.error = kind, message
        return status
