#!/usr/bin/env python
"""Name what is in images, videos or camera frames, with a trained ZegFormer or SAZS.

python demo/demo.py --checkpoint model_final.safetensors --input a.jpg photos/ "more/*.png" \\
    --output out/ --classes "cat, sofa"
python demo/demo.py --config-file configs/coco-stuff/zegformer_R50_..._gzss_eval.yaml \\
    --input photos/ --output out/ --opts MODEL.WEIGHTS model_final.pth
python demo/demo.py --checkpoint model_final.safetensors --video-input walk.mp4 --output named.mp4
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.errors import SettingError
from demo.options import HELP, DemoCommand, Options, model_options, open_words

if TYPE_CHECKING:
    import numpy as np

    from data.text.vocabulary import Vocabulary
    from eval.predict import Predict

DEFAULT_OUTPUT = Path("demo_output")
_ESCAPE = 27

log = logging.getLogger("demo")


def photos(inputs: Sequence[str]) -> list[Path]:
    """The files that paths, folders and globs mean, in order, each once.

    Raises
    ------
    SettingError
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
            own = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not own:
            raise SettingError(f"--input {given}: no such photo, folder with photos, or match")
        found += own
    return list(dict.fromkeys(found))


def places(output: Path | None, found: list[Path], *, overwrite: bool) -> list[Path]:
    """The overlay of each photo; what else is written lies beside it.

    Raises
    ------
    SettingError
        One file for several photos, two photos for one file, or a file that exists.
    """
    output = output or DEFAULT_OUTPUT
    if output.suffix and not output.is_dir():
        if output.suffix != ".png":
            raise SettingError(f"--output {output}: expected a folder, or a file that ends in .png")
        if len(found) > 1:
            raise SettingError(f"--output {output} is one file, but there are {len(found)} photos")
        own = [output]
    else:
        own = [output / f"{path.stem}.png" for path in found]
    _check_folder(own[0].parent)
    photo_of: dict[Path, Path] = {}
    for photo, path in zip(found, own, strict=True):
        if path in photo_of:
            raise SettingError(
                f"{photo_of[path]} and {photo} would both be written to {path}; name their files "
                "in turn"
            )
        photo_of[path] = photo
        if path.exists() and not overwrite:
            raise SettingError(f"{path} exists; give --overwrite or another --output")
    return own


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made, since a file has its name or that of one above."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise SettingError(f"--output: {path} is a file, expected a folder; name another")


def run_photos(found: list[Path], targets: list[Path], predict: Predict, own: Vocabulary) -> None:
    """Name the photos; one that cannot be read is left out, and said."""
    from data.pictures import ImageError, read_image
    from eval import predict as named_masks

    failed = 0
    for path, target in zip(found, targets, strict=True):
        try:
            image = read_image(path)
        except ImageError as error:
            failed += 1
            log.warning("left out: %s", error)
            continue
        prediction = predict(image)
        named_masks.write(target.parent, target.stem, image, prediction, own)
        told = ", ".join(own.names[c] for c in prediction.scores)
        log.info("%s -> %s: %s", path, target, told or "no mask was accepted")
    if failed == len(found):
        raise SettingError("no photo could be read")


@contextlib.contextmanager
def opened(video: Path | None) -> Iterator[Any]:
    """The video, or camera 0, as OpenCV's capture.

    Raises
    ------
    SettingError
        It does not open.
    """
    # What OpenCV and FFmpeg say of bad input follows in our words.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if video is not None and not video.is_file():
        raise SettingError(f"--video-input {video} does not open: no such file")
    capture = cv2.VideoCapture(0 if video is None else str(video))
    if not capture.isOpened():
        raise SettingError(
            "--webcam: camera 0 does not open: absent, or used by another program"
            if video is None
            else f"--video-input {video} does not open: no video, or of a format this "
            "OpenCV cannot decode"
        )
    try:
        yield capture
    finally:
        capture.release()


def video_place(output: Path | None, video: Path | None, *, overwrite: bool) -> Path | None:
    """The file for the named video; None means a window.

    Raises
    ------
    SettingError
        It exists, is named like a photo, or cannot be made.
    """
    from data.pictures import SUFFIXES

    if output is None and os.environ.get("DISPLAY"):
        return None
    if output is None:
        log.info("no display: writing to %s", DEFAULT_OUTPUT)
    place = output or DEFAULT_OUTPUT
    stem = "webcam" if video is None else video.stem
    path = place if place.suffix and not place.is_dir() else place / f"{stem}.mp4"
    if path.suffix.lower() in SUFFIXES:
        raise SettingError(f"--output {path}: expected a folder, or a file that ends in .mp4")
    _check_folder(path.parent)
    if path.exists() and not overwrite:
        raise SettingError(f"{path} exists; give --overwrite or another --output")
    return path


def run_video(capture: Any, path: Path | None, predict: Predict, own: Vocabulary) -> None:
    """Name each frame, in a window or into a file; Ctrl-C ends, and the file is whole."""
    import cv2

    writer = None
    frames = 0
    try:
        while (frame := capture.read()[1]) is not None:
            drawn = _named(frame, predict, own)
            frames += 1
            if path is None:
                cv2.imshow("demo", drawn)
                if cv2.waitKey(1) == _ESCAPE:
                    break
                continue
            writer = writer or _writer(path, capture, frame)
            writer.write(drawn)
            if frames % 25 == 0:
                log.info("%d frames", frames)
    except KeyboardInterrupt:
        log.info("stopped")
    finally:
        if writer is not None:
            writer.release()
            _check_written(path, frames)
            log.info("wrote %s, %d frames", path, frames)
    if not frames:
        raise SettingError("the video has no frame that can be read")


def _check_written(path: Path | None, frames: int) -> None:
    """OpenCV does not say that a disk is full."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if found < max(1, frames - 1):  # some containers only estimate it
        raise SettingError(f"{path}: {found} of {frames} frames were written; is the disk full?")


def _named(frame: np.ndarray, predict: Predict, own: Vocabulary) -> np.ndarray:
    """OpenCV's BGR in and out."""
    from eval import predict as named_masks

    image = frame[..., ::-1].copy()
    return named_masks.overlay(image, predict(image), own)[..., ::-1]


def _writer(path: Path, capture: Any, frame: np.ndarray) -> Any:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    size = (frame.shape[1], frame.shape[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    if not writer.isOpened():
        raise SettingError(f"{path}: this OpenCV cannot write it; name a folder, or a file .mp4")
    return writer


@click.command(cls=DemoCommand, help=__doc__, context_settings=HELP)
@click.option("--input", "inputs", multiple=True, help="Images, folders of images, or globs.")
@click.option("--video-input", "video", type=click.Path(path_type=Path), help="A video file.")
@click.option("--webcam", is_flag=True, help="Camera 0; Ctrl-C or Esc ends.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help=f"Folder, or file for one image or a video; else {DEFAULT_OUTPUT}.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@model_options
def main(
    inputs: tuple[str, ...],
    video: Path | None,
    webcam: bool,
    output: Path | None,
    overwrite: bool,
    options: Options,
    seen: str | None,
) -> None:
    if (bool(inputs), video is not None, webcam).count(True) != 1:
        raise click.UsageError("give one of --input, --video-input and --webcam")
    # What can be wrong with input and output is reported before the network is read.
    if not inputs:
        with opened(video) as capture:
            path = video_place(output, video, overwrite=overwrite)
            model, words = open_words(options, seen)
            run_video(capture, path, model.predictor(words), words)
        return
    found = photos(inputs)
    targets = places(output, found, overwrite=overwrite)
    if output is None:
        log.info("no --output: writing to %s", DEFAULT_OUTPUT)
    model, words = open_words(options, seen)
    run_photos(found, targets, model.predictor(words), words)


if __name__ == "__main__":
    main()
