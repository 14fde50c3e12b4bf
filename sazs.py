"""SAZS from the command line: `python sazs.py train ...`, `python sazs.py test ...`.

It has the options of the published scripts, and additional ones. Options without effect, in the
published scripts or here, are accepted and reported.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data import runlock
from data.errors import DatasetError, SettingError
from data.files import check_writable
from data.sazs.options import DataOptions, RecipeOptions, Running, ScoringOptions, StartOptions
from pipeline.click_options import FilledPath, typed_options
from pipeline.commands import one_line_errors

if TYPE_CHECKING:
    from torch import Tensor

    from data.sazs.folds import Fold
    from data.text.vocabulary import Vocabulary
    from eigen.store.maps import EigenFolder

PATH = FilledPath(path_type=Path)
ELSEWHERE = "give another --filename"

NO_EFFECT = [
    *(
        "--classes -c",
        "--phase",
        "--load",
        "--logpath",
        "--test-suffix",
        "--ran",
        "--has_edge_head",
    ),
    *("--load-release!", "--with-gt!", "--ms!", "--bn-sync!", "--evaluate -e!"),
]  # published options; those with ! take no value
# Options of a training run, so that one command line can be given to both.
NO_EFFECT_IN_TEST = [
    *("--epochs", "--batch_size", "--lr", "--lr-mode", "--step", "--momentum", "--drate"),
    *("--weight-decay --wd", "--crop-size -s", "--random-scale", "--random-rotate"),
]


def _note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value and "LOCAL_RANK" not in os.environ:  # else the launcher has reported it
        click.echo(f"{parameter.opts[0]} has no effect", err=True)


def without_effect(*options: str) -> Callable[[Callable], Callable]:
    """Accept options that have no effect, hidden from the help text, and report those given."""

    def decorate(command: Callable) -> Callable:
        for names in options:
            command = click.option(
                *names.removesuffix("!").split(),
                **{"expose_value": False, "callback": _note, "hidden": True},
                is_flag=names.endswith("!"),
            )(command)
        return command

    return decorate


def _is_first() -> bool:
    """Whether this process of a run is the one that writes and reports."""
    return os.environ.get("RANK", "0") == "0"


def reported(command: Callable) -> Callable:
    """Log progress, and report errors that the user can correct in one line."""

    @click.option("-v", "--verbose", is_flag=True, help="Log every detail.")
    @functools.wraps(command)
    def wrapped(verbose: bool, **given: Any) -> None:
        level = logging.INFO if verbose else logging.WARNING
        logging.basicConfig(level=level, format="%(asctime)s %(message)s")
        for floor in ("eval", "train"):
            logging.getLogger(floor).setLevel(logging.INFO if _is_first() else logging.ERROR)
        with one_line_errors():
            command(**given)

    return wrapped


def _held_out(data: DataOptions, recipe: Mapping[str, Any]) -> DataOptions:
    """The benchmark and fold that were held out in training, unless others are given.

    Raises
    ------
    SettingError
        Others are given: seen classes would be reported as unseen.
    """
    found = {}
    for name, default in (("benchmark", "pascal"), ("fold", 0)):
        given, trained = getattr(data, name), recipe.get(name)
        if trained is not None and given not in (None, trained):
            raise SettingError(
                f"--{name} {given}, but the weights were trained with {name} {trained}: classes "
                f"that they have seen would count as unseen. Leave --{name} out, or give weights "
                f"of {name} {given}"
            )
        found[name] = next(value for value in (given, trained, default) if value is not None)
    return data.model_copy(update={**found, **_held_out_names(data, recipe)})


def _held_out_names(data: DataOptions, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The classes that were held out by name in training, if any."""
    if data.hold_out and data.fold is not None:
        raise SettingError(f"--hold-out {data.hold_out!r}: give it or --fold, not both")
    if "fold" not in recipe:
        return {}
    trained = (
        ", ".join(recipe["names"][c] for c in recipe["held_out"])
        if recipe["fold"] is None
        else f"fold {recipe['fold']}"
    )
    given = data.hold_out or ("" if data.fold is None else f"fold {data.fold}")
    if given and set(_plain(given)) != set(_plain(trained)):
        raise SettingError(
            f"{given!r} cannot be held out: the weights were trained with {trained!r} held out, "
            "and classes that they have seen would count as unseen. Leave --hold-out and --fold "
            "out, or give other weights"
        )
    return {"hold_out": trained if recipe["fold"] is None else None}


def _plain(names: str) -> list[str]:
    """Names separated by commas, without capitals and spaces."""
    return ["".join(name.casefold().split()) for name in names.split(",") if name.strip()]


def _unseen(data: DataOptions, vocabulary: Vocabulary) -> list[int]:
    """Ids of the classes that are held out."""
    from data.sazs.splits import benchmark_of

    if data.hold_out is None:
        return benchmark_of(data.benchmark or "pascal").class_ids(data.fold or 0, "val")
    ids = {name: i for i, name in enumerate(_plain(",".join(vocabulary.names)))}
    unknown = [name for name in _plain(data.hold_out) if name not in ids]
    if unknown or not _plain(data.hold_out):
        raise SettingError(
            f"--hold-out {data.hold_out!r}: expected classes of {vocabulary.name} "
            f"({', '.join(vocabulary.names)}), found {', '.join(unknown) or 'none'}"
        )
    return sorted({ids[name] for name in _plain(data.hold_out)})


def _vocabulary(data: DataOptions, recipe: Mapping[str, Any]) -> Vocabulary:
    """The class names of --names, of the checkpoint, or of the benchmark; unseen as held out."""
    from data.sazs.classes import fewshot
    from data.sazs.splits import benchmark_of
    from data.text.vocabulary import from_file, from_names

    rules = benchmark_of(data.benchmark or "pascal")
    stored = recipe.get("names")
    if data.names:
        vocabulary = from_file(data.names, expected=rules.classes)
        if stored and list(vocabulary.names) != list(stored):
            raise SettingError(
                f"--names {data.names}: not the class names that the weights were trained with; "
                "leave --names out"
            )
    elif stored:
        vocabulary = from_names(stored, name="the checkpoint's classes")
    else:
        vocabulary = fewshot(rules.name, spelling=data.mode)
    return vocabulary.holding_out(_unseen(data, vocabulary))


def _texts(
    data: DataOptions, vocabulary: Vocabulary, device: Any, recipe: Mapping[str, Any]
) -> Tensor:
    import torch

    from models.sazs.texts import open_texts

    if data.embeddings is None and recipe.get("texts"):
        return torch.tensor(recipe["texts"])
    # Published features were made in half precision on a GPU.
    half = data.mode == "reference" and device.type == "cuda"
    return open_texts(data.embeddings or "ViT-B/32", vocabulary, half=half, device=device)


def _fold(data: DataOptions, vocabulary: Vocabulary) -> Fold:
    from data.sazs.folds import open_fold

    return open_fold(
        data.benchmark or "pascal",
        data.data_dir,
        data.fold or 0,
        held_out=_unseen(data, vocabulary) if data.hold_out else (),
        leave_out_unseen=data.leave_out_unseen,
        lists=data.lists,
        validation_share=data.validation_share,
    )


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
def archs() -> None:
    """List the networks."""
    from models.sazs.networks import ARCHITECTURES

    for name, entry in ARCHITECTURES.items():
        click.echo(f"{name:<14} starts from {entry.hub or 'randomly initialised weights'}")


@main.command()
@without_effect(*NO_EFFECT)
@typed_options(recipe=RecipeOptions, running=Running, start=StartOptions, data=DataOptions)
@reported
def train(recipe: RecipeOptions, running: Running, start: StartOptions, data: DataOptions) -> None:
    """Train a network with one fold of classes held out."""
    from train import checkpoint, distributed, launch
    from train.sazs import train as sazs

    data = _held_out(data, {})
    full = sazs.complete(recipe, str(data.benchmark), data.mode)
    if not launch.launched():
        _report_without_effect(recipe, running, start)
    count = launch.processes(running.processes, data.device, batch=full.batch_size)
    if count > 1:
        launch.start_processes(count, resume="the same command resumes it")
        return
    with contextlib.ExitStack() as stack:
        if _is_first():
            stack.enter_context(runlock.held(data.out, elsewhere=ELSEWHERE))
        world = stack.enter_context(distributed.start(data.device))
        vocabulary = _vocabulary(data, {})
        fold, texts = _fold(data, vocabulary), _texts(data, vocabulary, world.device, {})
        latest = data.out / checkpoint.LATEST
        resume = start.resume
        if resume is None and latest.is_file() and not start.restart:
            resume = latest
            if world.is_first:
                click.echo(f"resuming from {latest} (--restart starts over)", err=True)
        sazs.train(
            full,
            fold,
            texts,
            data.out,
            world,
            names=vocabulary.names,
            running=running,
            input_side=_side(data, {"arch": full.arch}),
            resume=resume,
        )
        if world.is_first:
            best = data.out / checkpoint.BEST
            weights = best if best.is_file() else data.out / checkpoint.FINAL
            click.echo(f"trained; test it with: python sazs.py test --resume {weights} ...")


def _report_without_effect(recipe: RecipeOptions, running: Running, start: StartOptions) -> None:
    """Name the options that do nothing with this network."""
    stored, defaults = recipe.arch == "lite2_frozen", RecipeOptions.model_fields
    options = {
        "--drate": recipe.drop_rate is not None and not recipe.arch.startswith(("drn", "lite2")),
        "--random-scale": stored and recipe.scale != defaults["scale"].default,
        "--random-rotate": stored and recipe.rotate != defaults["rotate"].default,
        "--reduce": stored and recipe.reduce != 1,
        "--features": running.features is not None and not stored,
    }
    if start.eig_dir:
        click.echo("--eig_dir has no effect on training; give it to test", err=True)
    for option in (name for name, given in options.items() if given):
        click.echo(f"{option} has no effect on {recipe.arch}", err=True)


def _side(data: DataOptions, recipe: Mapping[str, Any]) -> int | None:
    """Side that images are resized to; None for none."""
    default = 0 if str(recipe.get("arch")).startswith("lite2") else 512
    given = data.input_side
    return (recipe.get("input_side", default) if given is None else given) or None


def _network(options: ScoringOptions) -> tuple[Any, Mapping[str, Any]]:
    """The network to test, and the recipe in its file."""
    import torch

    from models.sazs.load import load
    from models.sazs.networks import build

    if options.weights:
        return load(options.weights, arch=options.arch)
    if not (options.untrained and options.arch):
        raise click.UsageError("give weights: --resume PATH, or --untrained --arch NAME")
    torch.manual_seed(0)
    return build(options.arch), {}


def _require_files(fold: Fold) -> None:
    missing = [problem for problem in fold.problems if problem.role == "val" and problem.missing]
    if missing:
        raise DatasetError(
            f"{len(missing)} test images have no image or label file "
            f"({', '.join(problem.image for problem in missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}; {missing[0].reason}): restore them, or give "
            "--allow-missing to score the others, with the count stated"
        )


def _check_scoring(options: ScoringOptions) -> None:
    """Refuse options of a test that contradict each other."""
    if options.untrained and options.weights:
        raise SettingError(f"--untrained: leave it out, or leave --resume {options.weights} out")
    if not options.eig_dir and options.fusion != ScoringOptions.model_fields["fusion"].default:
        raise SettingError(
            f"--fusion {options.fusion}: has no effect without eigenvectors; give --eig_dir"
        )


def _require_eigenvectors(eigen: EigenFolder, fold: Fold, options: ScoringOptions) -> None:
    """Of all test images, or with --missing-eig network of some; then their number is logged."""
    images = sorted({item.photo for item in fold.test})
    missing = eigen.missing(images)
    if missing and (options.missing_eig == "error" or len(missing) == len(images)):
        eigen.require(images)
    if missing:
        click.echo(
            f"{len(missing)} of {len(images)} test images have no eigenvectors: for them, the "
            "fused masks are those of the network",
            err=True,
        )


@main.command()
@without_effect(*NO_EFFECT, *NO_EFFECT_IN_TEST)
@typed_options(options=ScoringOptions, data=DataOptions)
@reported
def test(options: ScoringOptions, data: DataOptions) -> None:
    """Score weights on the held-out fold: network, fused, and the oracle's upper bound."""
    from eigen.device import torch_device
    from eigen.store.maps import EigenFolder
    from eval.sazs import scores as sazs_scores
    from eval.sazs.segmenter import SazsSegmenter
    from models.sazs.stored import open_store

    device = torch_device(data.device)
    _check_scoring(options)
    check_writable(data.out)
    model, recipe = _network(options)
    data = _held_out(data, recipe)
    side = _side(data, {"arch": options.arch, **recipe})
    store = options.features and open_store(model.to(device), options.features, side=side)
    segmenter = SazsSegmenter(
        model.to(device), side=side, autocast=options.autocast, store=store or None
    )
    vocabulary = _vocabulary(data, recipe)
    fold = _fold(data, vocabulary)
    if not options.allow_missing:
        _require_files(fold)
    eigen = EigenFolder(options.eig_dir) if options.eig_dir else None
    if eigen:
        _require_eigenvectors(eigen, fold, options)
    texts = _texts(data, vocabulary, device, recipe).to(device)
    tested = sazs_scores.Subject(fold, segmenter, vocabulary.names, texts, eigen, options.fusion)
    shown = {key: value for key, value in recipe.items() if key not in ("names", "texts")}
    about = {"weights": str(options.weights), "recipe": shown, "command": shlex.join(sys.argv)}
    with runlock.held(data.out, elsewhere=ELSEWHERE):
        results = sazs_scores.run(
            tested, data.out, about=about, pictures=options.pictures, seen=options.seen
        )
    click.echo(sazs_scores.text_table(results))
    click.echo(f"{data.out / sazs_scores.SCORES}, {data.out / sazs_scores.PAGE}")


@main.command()
@click.option("-d", "--data-dir", type=PATH, required=True, help="Folder of the generated world.")
@click.option("--eig_dir", type=PATH, required=True, help="Eigenvectors of its images.")
@click.option("--fold", default=0, type=click.IntRange(0, 3), help="Fold of classes held out.")
@click.option("--filename", "out", default="output", type=PATH, help="Folder of the results.")
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@reported
def demo(data_dir: Path, eig_dir: Path, fold: int, out: Path, device: str) -> None:
    """Train and score a small network on the generated world, in minutes on two cores."""
    import torch

    from pipeline.stages import demo_sazs as sazs_demo

    # Threads that share their cores with other processes spend their time waiting for each other,
    # and their number would change the weights by rounding.
    torch.set_num_threads(1)
    summary = sazs_demo.run(data_dir, eig_dir, out, fold=fold, device=device)
    for classes in ("seen", "unseen"):
        scores = ", ".join(f"{name} {miou:.1f}" for name, miou in summary[classes].items())
        click.echo(f"mIoU of {classes} classes: {scores}")
    gain = summary["fused_minus_network"]
    click.echo(
        f"fused - network, unseen: {gain['gain']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}]"
    )
    click.echo(f"mIoU of unseen classes by untrained networks: {summary['untrained']:.1f}")


if __name__ == "__main__":
    main()
