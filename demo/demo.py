#!/usr/bin/env python
"""Segment photos, videos or camera frames by words, with a trained ZegFormer or SAZS.

\b
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
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.errors import SettingError
from data.files import atomic_path, expanded
from data.progress import Pace
from demo.options import HELP, DemoCommand, Options, model_options, open_words
from pipeline.click_options import FilledPath

if TYPE_CHECKING:
    from data.text.vocabulary import Vocabulary
    from eval.predict import Predict

DEFAULT_OUTPUT = Path("demo_output")
_ESCAPE = 27
_LONGEST_NAME = 255  # bytes, of the usual file systems

log = logging.getLogger("demo")


def photos(inputs: Sequence[str]) -> list[Path]:
    """The image files that paths, folders and globs name, in order, each once.

    Raises
    ------
    SettingError
        One of them names no image.
    """
    from data.pictures import SUFFIXES

    files: list[Path] = []
    for name in inputs:
        path = expanded(name)
        if path.is_dir():
            matches = sorted(p for p in path.glob("[!.]*") if p.suffix.lower() in SUFFIXES)
        elif path.exists():
            matches = [path]
        else:
            matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not matches:
            raise SettingError(
                f"--input {name}: expected a photo, a folder of photos or a glob; found none"
            )
        files += matches
    return list(dict.fromkeys(files))


def overlay_paths(output: Path | None, files: list[Path], *, overwrite: bool) -> list[Path]:
    """Where the overlay of each photo goes; its label map and scores are written next to it.

    Raises
    ------
    SettingError
        `output` is one file for several photos, two photos would share an overlay, or one exists.
    """
    output = output or DEFAULT_OUTPUT
    if output.suffix and not output.is_dir():
        if output.suffix != ".png":
            raise SettingError(f"--output {output}: expected a folder, or a file that ends in .png")
        if len(files) > 1:
            raise SettingError(
                f"--output {output}: expected a folder for {len(files)} photos, found one file"
            )
        paths = [output]
    else:
        paths = [output / f"{file.stem}.png" for file in files]
    _check_folder(paths[0].parent)
    photo_of: dict[Path, Path] = {}
    inputs = {file.resolve() for file in files}
    for photo, path in zip(files, paths, strict=True):
        if path in photo_of:
            raise SettingError(
                f"{photo_of[path]} and {photo} would both be written to {path}; process them one "
                "at a time, each with its own --output"
            )
        photo_of[path] = photo
        for written in (path, *beside(path)):
            _check_free(written, inputs, overwrite=overwrite)
    return paths


def beside(overlay: Path) -> tuple[Path, Path]:
    """Where the label map and the scores of a photo go."""
    return overlay.with_name(f"{overlay.stem}_labels.png"), overlay.with_name(
        f"{overlay.stem}.json"
    )


def _check_free(path: Path, inputs: Collection[Path], *, overwrite: bool) -> None:
    """Refuse a file that exists, unless it may be overwritten; an input never may."""
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise SettingError(f"{path.name[:40]}...: this name would be too long; rename the input")
    if path.exists() and path.resolve() in inputs:
        raise SettingError(f"{path}: would overwrite an input; give another --output")
    if path.exists() and not overwrite:
        raise SettingError(f"{path} exists; give --overwrite or another --output")


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be created because it, or one above it, is a file."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise SettingError(f"--output: {path} is a file, expected a folder; name another")


def run_photos(
    files: list[Path], overlays: list[Path], predict: Predict, vocabulary: Vocabulary
) -> None:
    """Segment photos; one that cannot be read is skipped with a warning.

    Raises
    ------
    SettingError
        None of them can be read.
    """
    from data.pictures import ImageError, read_image
    from eval.predict import write

    failed, pace = 0, Pace(len(files))
    for file, overlay in zip(files, overlays, strict=True):
        try:
            image = read_image(file)
        except ImageError as error:
            failed += 1
            pace.done += 1
            log.warning("skipped: %s", error)
            continue
        prediction = predict(image)
        write(overlay.parent, overlay.stem, image, prediction, vocabulary)
        names = ", ".join(vocabulary.names[c] for c in prediction.scores)
        log.info("%s -> %s: %s%s", file, overlay, names or "no mask was accepted", left(pace))
    if failed == len(files):
        raise SettingError("--input: none of the photos could be read; see the warnings above")


def left(pace: Pace, unit: str = "photos") -> str:
    """Count one more as done: " (3 of 12, 0.5 photos/s, 18 s left)"; "" for a single one."""
    pace.done += 1
    return f" ({pace.done} of {pace.total}, {pace.text(unit=unit)})" if pace.total > 1 else ""


@contextlib.contextmanager
def open_video(video: Path | None) -> Iterator[Any]:
    """The video, or camera 0, as an OpenCV capture.

    Raises
    ------
    SettingError
        It cannot be opened.
    """
    # OpenCV and FFmpeg print to the terminal what the errors below say in one line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if video is not None and not video.is_file():
        raise SettingError(f"--video-input {video}: no such file")
    capture = cv2.VideoCapture(0 if video is None else str(video))
    if not capture.isOpened():
        raise SettingError(
            "--webcam: cannot open camera 0; it is absent or in use by another program"
            if video is None
            else f"--video-input {video}: cannot be opened; it is not a video, or OpenCV cannot "
            "decode its format"
        )
    try:
        yield capture
    finally:
        capture.release()


def video_path(output: Path | None, video: Path | None, *, overwrite: bool) -> Path | None:
    """The file that the video is written to; None shows it in a window.

    Raises
    ------
    SettingError
        The file exists, has the ending of an image, or cannot be created.
    """
    from data.pictures import SUFFIXES

    if output is None and os.environ.get("DISPLAY"):
        return None
    if output is None:
        log.info("no display: writing to %s", DEFAULT_OUTPUT)
    path = output or DEFAULT_OUTPUT
    if path.is_dir() or not path.suffix:
        path /= f"{'webcam' if video is None else video.stem}.mp4"
    if path.suffix.lower() in SUFFIXES:
        raise SettingError(f"--output {path}: expected a folder, or a file that ends in .mp4")
    _check_folder(path.parent)
    _check_free(path, {video.resolve()} if video else (), overwrite=overwrite)
    return path


def run_video(capture: Any, path: Path | None, predict: Predict, vocabulary: Vocabulary) -> None:
    """Segment each frame, into a file or a window; after Ctrl-C the file is still complete.

    Raises
    ------
    SettingError
        No frame can be read, or the format cannot be written, or not all frames were.
    OSError
        The folder cannot be written; names the file.
    """
    if path is None:
        _segment_frames(capture, None, None, predict, vocabulary)
    else:
        with atomic_path(path) as file:  # an older one stays until the new one is whole
            frames = _segment_frames(capture, file, path, predict, vocabulary)
            _check_written(file, path, frames)
        log.info("wrote %s, %d frames", path, frames)


def _segment_frames(
    capture: Any, file: Path | None, shown: Path | None, predict: Predict, vocabulary: Vocabulary
) -> int:
    """Write the frames, `shown` being the name of the file in messages; returns their number."""
    import cv2

    from eval.predict import overlay

    writer, frames = None, 0
    pace = Pace(max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))))  # a camera has no number
    try:
        while (frame := capture.read()[1]) is not None:
            image = frame[..., ::-1].copy()  # OpenCV's frames are BGR
            drawn = overlay(image, predict(image), vocabulary)[..., ::-1]
            frames += 1
            if file is None:
                cv2.imshow("demo", drawn)
                if cv2.waitKey(1) == _ESCAPE:
                    break
                continue
            writer = writer or _writer(file, shown, capture, frame)
            writer.write(drawn)
            pace.done = frames
            if frames % 25 == 0:
                of = f" of {pace.total}, {pace.text(unit='frames')}" if pace.total else ""
                log.info("%d frames%s", frames, of)
    except KeyboardInterrupt:
        log.info("stopped")
    finally:
        if writer is not None:
            writer.release()
    if not frames:
        raise SettingError("the video has no frame that can be read")
    return frames


def _check_written(file: Path, shown: Path, frames: int) -> None:
    """Count the frames in the file: OpenCV does not report that a disk is full."""
    import cv2

    capture = cv2.VideoCapture(str(file))
    written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if written < max(1, frames - 1):  # some containers only estimate it
        raise SettingError(f"{shown}: {written} of {frames} frames were written; is the disk full?")


def _writer(file: Path, shown: Path | None, capture: Any, frame: Any) -> Any:
    import cv2

    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    size = (frame.shape[1], frame.shape[0])
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    if not writer.isOpened():
        raise SettingError(
            f"--output {shown}: OpenCV cannot write this format; name a folder or an .mp4 file"
        )
    return writer


@click.command(cls=DemoCommand, help=__doc__, context_settings=HELP)
@click.option("--input", "inputs", multiple=True, help="Photos, folders of photos, or globs.")
@click.option("--video-input", "video", type=FilledPath(path_type=Path), help="Video file.")
@click.option("--webcam", is_flag=True, help="Segment frames of camera 0; stop with Ctrl-C or Esc.")
@click.option(
    "--output",
    type=FilledPath(path_type=Path),
    help=f"Output folder, or output file for one photo or a video. Default: {DEFAULT_OUTPUT}.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
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
    # Input and output are checked first: reading the network may take minutes.
    if not inputs:
        with open_video(video) as capture:
            path = video_path(output, video, overwrite=overwrite)
            model, words = open_words(options, seen)
            run_video(capture, path, model.predictor(words), words)
        return
    files = photos(inputs)
    overlays = overlay_paths(output, files, overwrite=overwrite)
    if output is None:
        log.info("no --output: writing to %s", DEFAULT_OUTPUT)
    model, words = open_words(options, seen)
    run_photos(files, overlays, model.predictor(words), words)


if __name__ == "__main__":
    main()
