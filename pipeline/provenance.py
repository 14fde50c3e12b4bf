"""Provenance of a result: configuration, versions, weights. Stored next to every result."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from eigenshape import __version__

PACKAGES = ("numpy", "scipy", "pyamg", "torch", "timm", "h5py", "opencv-python", "pillow")


def collect(config: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Configuration, software and machine as a dict for JSON; `more` is added unchanged."""
    return {
        "config": config,
        "software": {"eigenshape": software(), "python": platform.python_version(), **_versions()},
        "machine": f"{platform.system()} {platform.machine()}, {platform.processor() or 'CPU'}",
        **more,
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # not installed, or under another name (opencv-python-headless)
    return versions


@functools.cache
def software() -> str:
    """Version of eigenshape, with the commit where it runs from a checkout: "0.1.0+1a2b3c4"."""
    checkout = Path(__file__).resolve().parents[1]
    try:
        commit = subprocess.run(
            ["git", "-C", checkout, "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__  # installed without git or without a checkout
    return f"{__version__}+{commit}"
