"""Class names -> text embeddings, computed once and kept on disk.

An embedding of a class is one row of D numbers. In an ensemble every template is filled with every
synonym; each text's feature is brought to unit length, and so is their mean. SAZS instead takes one
bare text a class and leaves the length as it is.

The cache is one `.safetensors` file a request, named by a hash of the texts, the weights and the
arithmetic, so that a changed vocabulary or another CLIP is another file.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from data import weight_files
from data.errors import WeightsError
from data.text.vocabulary import synonyms
from models.clip.clip import CLIP, tokenize
from models.clip.weights import ClipSource

log = logging.getLogger(__name__)

CACHE = Path("~/.cache/eigenshape/text")
_FORMAT = 1


def encode_texts(clip: CLIP, texts: Sequence[str], *, batch: int = 256) -> Tensor:
    """CLIP's features of texts, not normalised: (len(texts), D) float32 on CLIP's device.

    Raises
    ------
    VocabularyError
    """
    device = clip.text_projection.device
    features = [torch.empty(0, clip.dim, device=device)]
    # Texts of like length together: a batch is as long as its longest text.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            tokens = tokenize([texts[i] for i in order[start : start + batch]])
            features.append(clip.encode_text(tokens.to(device)).float())
    found = torch.cat(features)
    return torch.empty_like(found).index_copy_(0, torch.tensor(order, device=device).long(), found)


def encode_classes(clip: CLIP, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Ensembled class embeddings of unit length: (len(names), D) float32 on CLIP's device.

    Parameters
    ----------
    clip : CLIP
    names : sequence of str
        A name with ", " lists synonyms.
    templates : sequence of str
        "{}" is replaced by the name.
    """
    texts = [[t.replace("{}", word) for t in templates for word in synonyms(n)] for n in names]
    # Classes share texts ("monitor" is a synonym of two); each is encoded once.
    distinct = {text: i for i, text in enumerate(dict.fromkeys(itertools.chain(*texts)))}
    features = torch.nn.functional.normalize(encode_texts(clip, list(distinct)), dim=1)
    rows = [features[[distinct[text] for text in own]].mean(dim=0) for own in texts]
    if not rows:
        return features
    return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def class_embeddings(
    names: Sequence[str],
    templates: Sequence[str],
    source: ClipSource,
    *,
    device: str | torch.device = "cpu",
    half: bool = False,
    cache: Path | None = CACHE,
) -> Tensor:
    """`encode_classes` through the cache; CLIP is only loaded for what the cache lacks.

    Parameters
    ----------
    names, templates
        As in `encode_classes`.
    source : ClipSource
    device, half
        Where and in which precision CLIP runs if it has to.
    cache : Path or None
        Folder of the cache; with None nothing is cached.

    Returns
    -------
    (len(names), D) float32, on the CPU
    """
    request = {"kind": "classes", "names": list(names), "templates": list(templates)}
    return _cached(
        request, source, device, half, cache, lambda clip: encode_classes(clip, names, templates)
    )


def text_embeddings(
    texts: Sequence[str],
    source: ClipSource,
    *,
    device: str | torch.device = "cpu",
    half: bool = False,
    cache: Path | None = CACHE,
) -> Tensor:
    """`encode_texts` through the cache: features of the bare texts, not normalised.

    Parameters as in `class_embeddings`. SAZS asks for ["others", name, ...].
    """
    request = {"kind": "texts", "texts": list(texts)}
    return _cached(request, source, device, half, cache, lambda clip: encode_texts(clip, texts))


def _cached(
    request: dict,
    source: ClipSource,
    device: str | torch.device,
    half: bool,
    cache: Path | None,
    compute: Callable[[CLIP], Tensor],
) -> Tensor:
    if cache is None:
        return compute(source.load(device, half=half)).cpu()
    identity = request | {"clip": source.digest(), "half": half, "format": _FORMAT}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    path = cache.expanduser() / f"{digest[:32]}.safetensors"
    if path.is_file():
        try:
            return weight_files.read(path).tensors["embeddings"]
        except (WeightsError, KeyError) as error:
            log.warning("%s: unreadable (%s); computed again", path, error)
    # Hundreds of classes with dozens of templates take minutes on a CPU.
    log.info("encoding texts with CLIP %s, once; kept as %s", source.name, path)
    found = compute(source.load(device, half=half)).cpu().contiguous()
    weight_files.write_safetensors(path, {"embeddings": found}, identity)
    return found
