"""Published CLIP weights by name or by file.

A file may be OpenAI's TorchScript archive, a `.safetensors` or a torch file; bare, under
`state_dict`, or inside a ZegFormer checkpoint. A name ("ViT-B/16") is looked for in the cache of
OpenAI's package, then fetched through open_clip (or found in its cache).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from data import weight_files
from data.errors import WeightsError
from data.files import expanded, sha256
from models.checkpoints import load_state
from models.clip.clip import CLIP, LayerNorm, sizes_of

log = logging.getLogger(__name__)

# The SHA-256 of OpenAI's archives, part of their published addresses.
PUBLISHED = {
    "ViT-B/32": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B/16": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
}
CACHE = Path("~/.cache/clip")
_PREFIXES = ("sem_seg_head.predictor.clip_model.", "text.")


@dataclass(frozen=True)
class ClipSource:
    """Source of CLIP's weights, which are read on first use.

    name : a key of `PUBLISHED`, or the path of a file
    patch : side in pixels of the image tower's patches; None takes any. Nothing else tells
        published CLIPs apart, whose text embeddings do not suit each other's users.
    """

    name: str
    patch: int | None = None

    def path(self) -> Path:
        """The file; a published name is fetched if no cache has it.

        Raises
        ------
        WeightsError
            Neither a file nor a name that can be had; says where to put the file.
        """
        if self.name not in PUBLISHED:
            path = expanded(self.name)
            if not path.is_file():
                raise WeightsError(
                    f"CLIP weights {self.name!r}: no such file, and none of the published names "
                    f"{', '.join(PUBLISHED)}"
                )
            return path
        cached = CACHE.expanduser() / f"{self.name.replace('/', '-')}.pt"
        return cached if cached.is_file() else _fetched(self.name, cached)

    def digest(self) -> str:
        """SHA-256 of the file: the identity of everything computed from these weights."""
        return sha256(self.path())

    def load(self, device: str | torch.device = "cpu", *, half: bool = False) -> CLIP:
        """The frozen towers in evaluation mode.

        Parameters
        ----------
        device : where to
        half : bool
            Half precision except in layer norms, as OpenAI runs it on a GPU. Float32 otherwise.

        Raises
        ------
        WeightsError
            Unreadable, damaged, or no CLIP with a vision transformer of such patches.
        """
        path = self.path()
        model = from_weights(read_weights(path), path)
        found = model.visual.conv1.kernel_size[0]
        if self.patch not in (None, found):
            raise WeightsError(
                f"{path}: expected CLIP with patches of {self.patch} pixels, found {found}: give "
                f"the file of ViT-B/{self.patch}"
            )
        if half:
            to_half(model)
        return model.to(device)


def _fetched(name: str, cached: Path) -> Path:
    from open_clip import pretrained

    log.info("looking for CLIP %s in the caches and on the hub (offline: a minute or two)", name)
    # Each of its attempts would be a line, before one error of ours.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    config = pretrained.get_pretrained_cfg(f"{name.replace('/', '-')}-quickgelu", "openai")
    try:
        return Path(pretrained.download_pretrained(config, prefer_hf_hub=True))
    except Exception as error:  # every transport has its own; all mean the same to the user
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise WeightsError(
            f"CLIP weights {name} could not be fetched ({reason}). Put OpenAI's file at {cached}, "
            "or give the path of a file (--embeddings; CLIP_PRETRAINED for ZegFormer)"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """CLIP's tensors under OpenAI's keys, as stored in any of the accepted files.

    Raises
    ------
    WeightsError
        Unreadable or damaged; or a published file's name on other content.
    """
    for name, digest in PUBLISHED.items():
        if path.name == f"{name.replace('/', '-')}.pt" and sha256(path) != digest:
            raise WeightsError(
                f"{path}: not OpenAI's {name} file (SHA-256 differs from {digest[:8]}...): fetch "
                "it again, or rename it if it is another CLIP"
            )
    weights = weight_files.read(path).tensors
    if any(key.startswith(_PREFIXES[0]) for key in weights):
        weights = {key: value for key, value in weights.items() if key.startswith(_PREFIXES[0])}
    for prefix in _PREFIXES:
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def from_weights(weights: Mapping[str, Tensor], source: str | Path) -> CLIP:
    """The frozen model that a state dict in OpenAI's layout belongs to, float32.

    Raises
    ------
    WeightsError
        Another layout; `source` is named.
    """
    try:
        sizes = sizes_of(weights)
    except KeyError as error:
        raise WeightsError(
            f"{source}: no CLIP with a vision transformer: it has no {error}"
        ) from error
    with torch.device("meta"):
        model = CLIP(**sizes)
    model.to_empty(device="cpu")
    load_state(model, weights, source)
    return model.eval().requires_grad_(False)


def to_half(model: nn.Module, dtype: torch.dtype = torch.float16) -> None:
    """CLIP, or one of its towers, in half precision in place, layer norms excepted."""
    for module in model.modules():
        if not isinstance(module, LayerNorm):
            for name, parameter in module.named_parameters(recurse=False):
                halved = nn.Parameter(parameter.to(dtype), requires_grad=parameter.requires_grad)
                setattr(module, name, halved)
