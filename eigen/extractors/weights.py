"""Weights of a network: found, read without running code, and checked against it."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from data.errors import SettingError, WeightsError
from data.files import sha256
from eigen.extractors.layouts import to_timm
from eigen.extractors.zoo import Backbone

logger = logging.getLogger(__name__)

WITHOUT = "to run without any, set extractor=lowlevel"


def random_seed(weights: str | Path | None) -> int | None:
    """The seed in "random:SEED"; None for weights that are not made up."""
    if not str(weights).startswith("random:"):
        return None
    found = re.fullmatch(r"random:(\d+)", str(weights))
    if found is None:
        raise SettingError(f"weights {weights!r}: expected random:SEED with a whole number")
    return int(found[1])


def load(
    network: torch.nn.Module, weights: str | Path | None, *, name: str, backbone: Backbone
) -> str:
    """Put weights into `network`; return the SHA-256 of their file, or "random:SEED".

    Parameters
    ----------
    network : Module
        As timm made it, on the CPU.
    weights : path, "random:SEED" or None
        None takes the file from the hub's cache, or fetches it. "random:SEED" leaves the network as
        it is: it was made with that seed.
    name : str
        What messages call the network.
    backbone : Backbone
        Where its weights come from.

    Raises
    ------
    WeightsError
        Every way in which that can fail, in one line.
    """
    if random_seed(weights) is not None:
        return str(weights)
    path = _from_hub(network, name, backbone) if weights is None else Path(weights).expanduser()
    wanted = network.state_dict()
    state = to_timm(read(path), wanted)
    _check(state, wanted, path=path, name=name)
    network.load_state_dict(state)
    return sha256(path)


def read(path: Path) -> Mapping[str, Any]:
    """What a .safetensors or PyTorch file holds, on the CPU; no code in it is run.

    Raises
    ------
    WeightsError
        No such file, a damaged one, one that wants to run code, or one that holds no mapping.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; give the path of a .pth or .safetensors file")
    try:
        held = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pytorch(path)
    except WeightsError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{path}: not a whole weights file ({_reason(error)}); download it again"
        ) from error
    if not isinstance(held, Mapping):
        raise WeightsError(f"{path}: expected a mapping of tensors, found {type(held).__name__}")
    return held


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _read_pytorch(path: Path) -> Any:
    # DINO's training checkpoints hold the command line's arguments: a record that runs nothing.
    allowed = torch.serialization.safe_globals([argparse.Namespace])
    with allowed, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints at loading unsafely, on files refused below
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            code = re.search(r"GLOBAL (\S+)", str(error))
            if code is None:
                raise ValueError("no PyTorch file") from error
            raise WeightsError(
                f"{path}: refused, it wants to run {code[1]}; weights are tensors only:"
                " save the state dict alone, or as .safetensors"
            ) from error


def _check(
    state: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    *,
    path: Path,
    name: str,
) -> None:
    """Refuse weights of another network, naming the first of its keys that differs."""
    for key, tensor in wanted.items():
        found = tuple(state[key].shape) if key in state else "nothing"
        if found != tuple(tensor.shape):
            raise WeightsError(
                f"{path}: not the weights of {name}: {key}: expected shape {tuple(tensor.shape)},"
                f" found {found}"
            )
    extra = next((key for key in state if key not in wanted), None)
    if extra is not None:
        raise WeightsError(f"{path}: not the weights of {name}: it has no {extra}")


def _from_hub(network: torch.nn.Module, name: str, backbone: Backbone) -> Path:
    """Path in the hub's cache of the weights timm lists for the network, fetched if need be."""
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
    """First sentence of an error's message, or its kind where it says nothing."""
    return re.split(r"\n|\. ", str(error).strip())[0] or type(error).__name__
