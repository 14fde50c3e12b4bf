"""SAZS from the command line: `python sazs.py train ...`, `python sazs.py test ...`.

The options of the published scripts, and ours. Options that have no effect, there or here, are
accepted and said to have none.
"""

from __future__ import annotations

import functools
import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands import one_line_errors

if TYPE_CHECKING:
    from torch import Tensor

    from data.text.vocabulary import Vocabulary

PATH = click.Path(path_type=Path)
HALVES = click.Choice(("none", "bf16", "fp16"))


def option(*names: str, text: str = "", **settings: Any) -> Callable:
    """A click option that shows its default."""
    settings.setdefault("show_default", True)
    return click.option(*names, help=text, **settings)


def _note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        click.echo(f"{parameter.opts[-1]} has no effect", err=True)


def _idle(*names: str, **settings: Any) -> Callable:
    return click.option(*names, expose_value=False, callback=_note, hidden=True, **settings)


SHARED = [
    option("-d", "--data-dir", default="datasets", type=PATH),
    option("--benchmark", type=click.Choice(("pascal", "coco")), default="pascal"),
    option("--fold", default=0, text="Fold of classes that is held out, 0 to 3."),
    option("--filename", "out", default="output", type=PATH, text="Folder of the results."),
    option("-j", "--workers", default=2, text="Processes that read samples."),
    option("--names", type=PATH, text="Class names, one a line, in class-id order."),
    option("--embeddings", default="ViT-B/32", text="CLIP by name or file, or a table (.npy ...)."),
    option("--lists", type=PATH, text="Lists of (photo, class): our JSON, or a published folder."),
    option("--validation-share", default=0.1, text="Training photos kept to choose weights by."),
    option("--mode", type=click.Choice(("corrected", "reference")), default="corrected"),
    option("--input-side", default=512, text="Square that tested photos are squashed to; 0: none."),
    option("--device", default="auto", text="auto, cpu, cuda or cuda:N."),
    option("--autocast", type=HALVES, default="none"),
    option("-v", "--verbose", is_flag=True, show_default=False),
    _idle("-c", "--classes"),
    _idle("--phase"),
    _idle("--load"),
    _idle("--logpath"),
    _idle("--test-suffix"),
    _idle("--ran"),
    _idle("--has_edge_head"),
    _idle("--load-release", is_flag=True),
    _idle("--with-gt", is_flag=True),
    _idle("--ms", is_flag=True),
    _idle("--bn-sync", is_flag=True),
    _idle("-e", "--evaluate", is_flag=True),
]

TRAINING = [
    option("--arch", default="vitl16_384", text="Network; `python sazs.py archs` lists them."),
    option("--resume", type=PATH, text="Checkpoint to go on from; found in the folder by itself."),
    option("--restart", is_flag=True, text="Do not go on from the folder's checkpoint."),
    option("--pretrained", default="", text="Weights of a whole network to start from."),
    option("--init", text="Start of the trunk: hub (where there is one), a file, or none."),
    option(
        "--epochs", type=int, text="As published for network and benchmark.", show_default=False
    ),
    option("--batch_size", default=6, text="SazsSamples a step and process."),
    option("--accumulate", default=1, text="Batches whose mean gradient makes a step."),
    option("--optimizer", type=click.Choice(("sgd", "adamw")), default="sgd"),
    option("--lr", type=float, text="As published for network and benchmark.", show_default=False),
    option("--lr-mode", type=click.Choice(("poly", "step")), default="poly"),
    option("--step", default=200, text="Epochs between decays of --lr-mode step."),
    option("--momentum", default=0.9),
    option("--weight-decay", "--wd", default=1e-4),
    option("--drate", type=float, text="Channel dropout of DRN.", show_default=False),
    option("-s", "--crop-size", default=512),
    option("--random-scale", default=2.0),
    option("--random-rotate", default=10),
    option("--reduce", default=1, text="Factor that photos are made smaller by before the crop."),
    option("--shape-loss", type=click.Choice(("none", "reference", "fixed")), default="none"),
    option("--regressor", default="", text="distance_measures_regressor.pth, for --shape-loss."),
    option("--overlap", default=0.0, text="Weight of a Dice loss; for few photos."),
    option("--seed", default=0),
    option("--ema", default=0.0, text="Decay of the averaged weights; 0 keeps none."),
    option("--channels-last", is_flag=True),
    option("--compile", "compiled", is_flag=True, text="torch.compile the network."),
    option("--save-every", default=0, text="Steps between checkpoints; 0: every epoch."),
    option("--eig_dir", type=PATH, text="Has no effect on a training."),
]

TESTING = [
    option("--arch", text="Network, where the weights do not say it.", show_default=False),
    option("--resume", "weights", type=PATH, text="Weights to test."),
    option("--untrained", is_flag=True, text="Test fresh weights of --arch: what chance gives."),
    option("--pretrained", "weights_too", type=PATH, text="The same as --resume."),
    option("--eig_dir", type=PATH, text="Eigenvectors: shards, or published PNGs."),
    option("--fusion", default="projection", text="agreement, voting or projection."),
    option(
        "--missing-eig",
        type=click.Choice(("error", "network")),
        default="error",
        text="Photos without eigenvectors: stop, or take the network's mask.",
    ),
    option("--seen", is_flag=True, text="Score the seen classes of the tested photos too."),
    option("--pictures", default=6, text="Best and worst cases shown on the page, each."),
]
# A training's options, so that one command line can be given to both.
UNUSED_IN_TEST = [
    "--epochs", "--batch_size", "--lr", "--lr-mode", "--step", "--momentum", "--weight-decay",
    "--drate", "--crop-size", "--random-scale", "--random-rotate",
]  # fmt: skip


def options(*groups: list[Callable]) -> Callable:
    """Give a command all options of the groups."""

    def decorate(command: Callable) -> Callable:
        for add in reversed([add for group in groups for add in group]):
            command = add(command)
        return command

    return decorate


def errors_in_one_line(command: Callable) -> Callable:
    """Say in one line what a user can mend; anything unforeseen keeps its traceback."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        level = logging.INFO if given.pop("verbose") else logging.WARNING
        logging.basicConfig(level=level, format="%(asctime)s %(message)s")
        with one_line_errors():
            command(**given)

    return wrapped


def _vocabulary(given: dict[str, Any]) -> Vocabulary:
    from data.sazs.splits import BENCHMARKS
    from data.text.vocabulary import fewshot, from_file

    rules = BENCHMARKS[given["benchmark"]]
    unseen = rules.class_ids(given["fold"], "val")
    if given["names"]:
        return from_file(given["names"], expected=rules.classes).holding_out(unseen)
    return fewshot(given["benchmark"], fold=given["fold"], spelling=given["mode"])


def _texts(given: dict[str, Any], vocabulary: Vocabulary, device: Any) -> Tensor:
    from models.sazs.texts import open_texts

    # Published features were made in half precision on a GPU.
    half = given["mode"] == "reference" and device.type == "cuda"
    return open_texts(given["embeddings"], vocabulary, half=half, device=device)


def _fold(given: dict[str, Any]):
    from data.sazs.folds import open_fold

    return open_fold(
        given["benchmark"],
        given["data_dir"],
        given["fold"],
        lists=given["lists"],
        validation_share=given["validation_share"],
    )


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
def archs() -> None:
    """List the networks."""
    from models.sazs.networks import ARCHITECTURES

    for name, entry in ARCHITECTURES.items():
        click.echo(f"{name:<14} starts from {entry.hub or 'fresh weights'}")


@main.command()
@options(TRAINING, SHARED)
@errors_in_one_line
def train(**given: Any) -> None:
    """Train a network with one fold of classes held out."""
    from train import checkpoint, distributed
    from train.sazs import train as sazs

    recipe = _recipe(given)
    side = given["input_side"] or None
    running = sazs.Running(
        workers=given["workers"],
        autocast=given["autocast"],
        channels_last=given["channels_last"],
        compile=given["compiled"],
        ema=given["ema"],
        save_every=given["save_every"],
        input_side=side,
    )
    if given["eig_dir"]:
        click.echo("--eig_dir has no effect on a training; give it to test", err=True)
    with distributed.start(given["device"]) as world:
        vocabulary = _vocabulary(given)
        fold, texts = _fold(given), _texts(given, vocabulary, world.device)
        out: Path = given["out"]
        latest = out / checkpoint.LATEST
        resume = given["resume"]
        if resume is None and latest.is_file() and not given["restart"]:
            resume = latest
            click.echo(f"going on from {latest} (--restart begins anew)", err=True)
        sazs.train(recipe, fold, texts, out, world, running=running, resume=resume)
        if world.is_first:
            best = out / checkpoint.BEST
            weights = best if best.is_file() else out / checkpoint.FINAL
            click.echo(f"trained; test it with: python sazs.py test --resume {weights} ...")


def _recipe(given: dict[str, Any]):
    from models.sazs.networks import ARCHITECTURES
    from train.sazs import train as sazs

    chosen = sazs.published_defaults(given["arch"], given["benchmark"])
    known = ARCHITECTURES.get(given["arch"])
    chosen["init"] = given["init"] or ("hub" if known is None or known.hub else "none")
    asked = {"lr": given["lr"], "epochs": given["epochs"], "drop_rate": given["drate"]}
    chosen |= {name: value for name, value in asked.items() if value is not None}
    if given["drate"] is not None and not given["arch"].startswith("drn"):
        click.echo(f"--drate has no effect on {given['arch']}", err=True)
    same = (
        "arch", "optimizer", "pretrained", "mode", "batch_size", "accumulate", "lr_mode", "step",
        "momentum", "weight_decay", "shape_loss", "regressor", "overlap", "seed", "reduce",
    )  # fmt: skip
    return sazs.Recipe(
        **chosen,
        **{name: given[name] for name in same},
        crop=given["crop_size"],
        scale=given["random_scale"],
        rotate=given["random_rotate"],
    )


@main.command()
@options(TESTING, [_idle(name) for name in UNUSED_IN_TEST], SHARED)
@errors_in_one_line
def test(**given: Any) -> None:
    """Score weights on the held-out fold: network, fused, and the oracle's upper bound."""
    import torch

    from eigen.device import torch_device
    from eigen.store.maps import EigenFolder
    from eval.sazs import scores as sazs_scores
    from eval.sazs.segmenter import SazsSegmenter
    from models.sazs.load import load
    from train.sazs import train as sazs

    weights = given["weights"] or given["weights_too"]
    if weights is None and not (given["untrained"] and given["arch"]):
        raise click.UsageError("give weights: --resume PATH, or --untrained --arch NAME")
    device = torch_device(given["device"])
    if given["untrained"]:
        torch.manual_seed(0)
        model, recipe = sazs.start(sazs.Recipe(arch=given["arch"], init="none")), {}
    else:
        model, recipe = load(weights, arch=given["arch"])
    segmenter = SazsSegmenter(
        model.to(device), side=given["input_side"] or None, autocast=given["autocast"]
    )
    vocabulary, fold = _vocabulary(given), _fold(given)
    eigen = EigenFolder(given["eig_dir"]) if given["eig_dir"] else None
    if eigen and given["missing_eig"] == "error":
        eigen.require(item.photo for item in fold.test)
    tested = sazs_scores.Subject(
        fold,
        segmenter,
        vocabulary.names,
        _texts(given, vocabulary, device).to(device),
        eigen,
        given["fusion"],
    )
    about = {"weights": str(weights), "recipe": dict(recipe), "command": shlex.join(sys.argv)}
    results = sazs_scores.run(
        tested, given["out"], about=about, pictures=given["pictures"], seen=given["seen"]
    )
    click.echo(sazs_scores.text_table(results))
    click.echo(f"{given['out'] / sazs_scores.SCORES}, {given['out'] / sazs_scores.PAGE}")


@main.command()
@option("-d", "--data-dir", type=PATH, required=True, text="Folder of the generated world.")
@option("--eig_dir", type=PATH, required=True, text="Eigenvectors of its photos.")
@option("--fold", default=0, text="Fold of classes that is held out, 0 to 3.")
@option("--filename", "out", default="output", type=PATH, text="Folder of the results.")
@option("--device", default="auto")
@option("-v", "--verbose", is_flag=True, show_default=False)
@errors_in_one_line
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
