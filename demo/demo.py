#!/usr/bin/env python
"""Name what is in your own photos, videos or camera, with a trained ZegFormer or SAZS.

python demo/demo.py --config-file configs/coco-stuff/zegformer_R50_..._gzss_eval.yaml \\
    --input a.jpg photos/ "more/*.png" --output out/ --classes "cat, sofa" \\
    --opts MODEL.WEIGHTS model_final.safetensors
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    import numpy as np

    from data.vocabulary import Vocabulary
    from eval.named_masks import Predict

OUR_PACKAGES = ("data", "eigen", "models", "eval", "train")
DEFAULT_CONFIG = "configs/coco-stuff/zegformer_R50_bs32_60k_vit16_coco-stuff_gzss_eval.yaml"
DEFAULT_OUTPUT = Path("demo_output")

log = logging.getLogger("demo")


class DemoError(ValueError):
    """Input that is not there, or output that cannot be made."""


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default=DEFAULT_CONFIG, help="ZegFormer's configuration")
    parser.add_argument("--checkpoint", help="weights of ZegFormer or SAZS; else MODEL.WEIGHTS")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", nargs="+", help="photos, folders of photos, or globs")
    source.add_argument("--video-input", type=Path)
    source.add_argument("--webcam", action="store_true")
    parser.add_argument("--output", type=Path, help="folder, or file for a single photo or a video")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--classes", help='"cat, sofa", or a file of names')
    parser.add_argument("--seen", default="", help="which of --classes had masks in training")
    parser.add_argument("--embeddings", default="", help="table of text embeddings (.npy)")
    parser.add_argument(
        "--confidence-threshold", type=float, default=-float("inf"), help="unnamed below this score"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ..., last")
    return parser.parse_args(given)


def photos(inputs: list[str]) -> list[Path]:
    """The files that paths, folders and globs mean, in order.

    Raises
    ------
    DemoError
        One of them means nothing.
    """
    from data.pictures import SUFFIXES

    found: list[Path] = []
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_dir():
            own = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif path.exists():
            own = [path]
        else:
            own = sorted(path.parent.glob(path.name))
        if not own:
            raise DemoError(f"--input {given}: no such photo, folder with photos, or match")
        found += own
    return found


def vocabulary(classes: str, seen: str, default: Vocabulary) -> Vocabulary:
    """The asked-for classes; none means the configuration's."""
    from data.vocabulary import from_file, from_names

    if not classes:
        return default
    path = Path(classes).expanduser()
    looks_like_file = path.suffix in (".txt", ".json")
    own = (
        from_file(path)
        if looks_like_file
        else from_names([name.strip() for name in classes.split(",")], name="--classes")
    )
    if not seen:
        return own
    known = {own.index(name.strip()) for name in seen.split(",")}
    return own.holding_out(set(range(len(own))) - known)


def predictor(args: argparse.Namespace) -> tuple[Predict, Vocabulary]:
    """What predicts, and the classes it knows."""
    from train.zegformer_build import configuration, named_classes

    overrides = list(args.opts)
    if args.checkpoint:
        overrides += ["MODEL.WEIGHTS", args.checkpoint]
    if args.embeddings:
        overrides += ["MODEL.TEXT_EMBEDDINGS", args.embeddings]
    config = configuration(args.config_file, overrides)
    default = named_classes(config, config["DATASETS.TEST"][0], "TEST")
    own = vocabulary(args.classes, args.seen, default.vocabulary)
    if args.checkpoint and _is_sazs(args.checkpoint):
        return _sazs(args, config, own), own
    return _zegformer(args, config, default, own), own


def _is_sazs(checkpoint: str) -> bool:
    from models.zegformer_weights import read

    return not any(key.startswith("sem_seg_head.") for key in read(Path(checkpoint)))


def _zegformer(args: argparse.Namespace, config: dict, default: Any, own: Vocabulary) -> Predict:
    from eval.named_masks import with_zegformer
    from eval.zegformer import Segmenter
    from train.distributed import device
    from train.zegformer_build import NamedClasses, network, segmenter, text_dim

    if not config["MODEL.WEIGHTS"]:
        raise DemoError("no weights: give --checkpoint FILE, or --opts MODEL.WEIGHTS FILE")
    classes = NamedClasses(own, own, list(range(len(own)))) if args.classes else default
    model = network(config, text_dim(config)).to(device(config["MODEL.DEVICE"]))
    found = segmenter(config, model, classes)
    if not isinstance(found, Segmenter):
        raise DemoError(
            "the per-pixel baseline has no demo; choose MODEL.META_ARCHITECTURE MaskFormer"
        )
    return with_zegformer(
        found,
        short=config["INPUT.MIN_SIZE_TEST"],
        longest=config["INPUT.MAX_SIZE_TEST"],
        threshold=args.confidence_threshold,
    )


def _sazs(args: argparse.Namespace, config: dict, own: Vocabulary) -> Predict:
    import torch

    from data.embeddings import load_embeddings
    from data.vocabulary import OTHERS
    from eval.inference import Segmenter
    from eval.named_masks import with_sazs
    from models.clip_weights import ClipSource
    from models.text import text_embeddings
    from train import sazs
    from train.distributed import device

    model, _ = sazs.load(args.checkpoint)
    names = [OTHERS, *own.names]
    if args.embeddings:
        texts = torch.from_numpy(load_embeddings(args.embeddings))
        if len(texts) != len(names):
            raise DemoError(
                f"{args.embeddings}: expected {len(names)} rows ({OTHERS!r}, then the classes), "
                f"found {len(texts)}"
            )
    else:
        texts = text_embeddings(names, ClipSource("ViT-B/32"))
    where = device(config["MODEL.DEVICE"])
    return with_sazs(Segmenter(model.to(where)), texts, threshold=args.confidence_threshold)


def run_photos(args: argparse.Namespace, predict: Predict, own: Vocabulary) -> None:
    from data.pictures import PictureError, read_image
    from eval import named_masks

    found = photos(args.input)
    folder, stem = _place(args, found)
    failed = 0
    for path in found:
        name = stem or path.stem
        if (folder / f"{name}.png").exists() and not args.overwrite:
            raise DemoError(
                f"{folder / f'{name}.png'} exists; give --overwrite or another --output"
            )
        try:
            image = read_image(path)
        except PictureError as error:
            failed += 1
            log.warning("left out: %s", error)
            continue
        prediction = predict(image)
        named_masks.write(folder, name, image, prediction, own)
        told = ", ".join(own.names[c] for c in prediction.scores)
        log.info("%s -> %s: %s", path, folder / f"{name}.png", told or "no mask was accepted")
    if failed == len(found):
        raise DemoError("no photo could be read")


def _place(args: argparse.Namespace, found: list[Path]) -> tuple[Path, str]:
    """Folder of the results, and their stem if one file was named."""
    if args.output is None:
        log.info("no --output: writing to %s", DEFAULT_OUTPUT)
        return DEFAULT_OUTPUT, ""
    if args.output.suffix == ".png":
        if len(found) > 1:
            raise DemoError(
                f"--output {args.output} is one file, but there are {len(found)} photos"
            )
        return args.output.parent, args.output.stem
    return args.output, ""


def run_video(args: argparse.Namespace, predict: Predict, own: Vocabulary) -> None:
    import cv2

    from eval import named_masks

    source: Any = 0 if args.webcam else str(args.video_input)
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        what = "camera 0" if args.webcam else f"--video-input {args.video_input}"
        raise DemoError(f"{what} does not open: absent, or of a format this OpenCV cannot decode")
    shown = args.output is None and bool(os.environ.get("DISPLAY"))
    path = _video_path(args) if not shown else None
    writer = None
    try:
        for frame in _frames(capture):
            image = frame[..., ::-1].copy()
            drawn = named_masks.overlay(image, predict(image), own)[..., ::-1]
            if path is None:
                cv2.imshow("demo", drawn)
                if cv2.waitKey(1) == 27:  # escape
                    break
                continue
            if writer is None:
                rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
                size = (frame.shape[1], frame.shape[0])
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
                if not writer.isOpened():
                    raise DemoError(f"{path}: this OpenCV cannot write mp4v; name a folder instead")
            writer.write(drawn)
    finally:
        capture.release()
        if writer is not None:
            writer.release()
            log.info("wrote %s", path)


def _frames(capture: Any) -> Iterator[np.ndarray]:
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield frame


def _video_path(args: argparse.Namespace) -> Path:
    stem = "webcam" if args.webcam else args.video_input.stem
    place = args.output or DEFAULT_OUTPUT
    if args.output is None:
        log.info("no display: writing to %s", DEFAULT_OUTPUT)
    path = place if place.suffix else place / f"{stem}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not args.overwrite:
        raise DemoError(f"{path} exists; give --overwrite or another --output")
    return path


def main(given: list[str] | None = None) -> int:
    args = arguments(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("PIL").setLevel(logging.WARNING)
    try:
        if args.input:
            photos(args.input)  # before weights are read
        predict, own = predictor(args)
        if args.input:
            run_photos(args, predict, own)
        else:
            run_video(args, predict, own)
    except Exception as error:
        ours = type(error).__module__.partition(".")[0] in OUR_PACKAGES
        if args.debug or not (ours or isinstance(error, DemoError | OSError)):
            raise
        log.error("Error: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
