"""Classes as one object: names, synonyms, which are seen, label values and colours.

A class id is an index into `names`. No other list of classes exists that would have to agree.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.errors import VocabularyError, reason

OTHERS = "others"
"""SAZS's name for everything outside the class that is looked for."""

_VALUES = 65536  # of a label map of 16 bits


@dataclass(frozen=True)
class Vocabulary:
    """Classes in class-id order.

    Parameters
    ----------
    name
        Name in messages: that of a data set, or the path of a file.
    names
        One per class, all different; `", "` separates synonyms.
    unseen
        Ids of the classes that have no masks in training.
    label_ids
        Value of each class in the data set's published label maps.
    ignore
        Label value that counts neither in a loss nor in a score.
    """

    name: str
    names: tuple[str, ...]
    unseen: frozenset[int] = frozenset()
    label_ids: tuple[int, ...] = ()
    ignore: int = 255

    def __post_init__(self) -> None:
        if not self.names:
            raise VocabularyError(f"{self.name}: expected at least one class name, found none")
        seen_before: set[str] = set()
        for name in self.names:
            if not name.strip() or name in seen_before:
                trouble = "an empty name" if not name.strip() else f"{name!r} twice"
                raise VocabularyError(f"{self.name}: expected different names, found {trouble}")
            seen_before.add(name)
        if not self.label_ids:
            object.__setattr__(self, "label_ids", tuple(range(len(self))))
        if len(self.label_ids) != len(self):
            raise VocabularyError(
                f"{self.name}: expected {len(self)} label ids, found {len(self.label_ids)}"
            )
        values = (*self.label_ids, self.ignore)
        if len(set(self.label_ids)) != len(self) or not all(0 <= v < _VALUES for v in values):
            raise VocabularyError(
                f"{self.name}: expected different label ids from 0 to {_VALUES - 1}, found "
                f"{_few(self.label_ids)}; ignore {self.ignore}"
            )
        if not self.unseen <= set(range(len(self))):
            stray = sorted(self.unseen - set(range(len(self))))
            raise VocabularyError(
                f"{self.name}: expected unseen ids of {len(self)} classes, found {stray}"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def seen_ids(self) -> list[int]:
        return [c for c in range(len(self)) if c not in self.unseen]

    @property
    def unseen_ids(self) -> list[int]:
        return sorted(self.unseen)

    @property
    def seen_flags(self) -> np.ndarray:
        """(n,) bool."""
        return np.array([c not in self.unseen for c in range(len(self))])

    @property
    def colours(self) -> np.ndarray:
        """(n, 3) uint8 RGB: PASCAL's palette, in which no two classes have the same colour."""
        return palette(np.arange(1, len(self) + 1))

    def synonyms(self, class_id: int) -> list[str]:
        """The synonyms of a class: its name split at ", "."""
        return synonyms(self.names[class_id])

    def index(self, name: str) -> int:
        """Class id of a name. Raises `VocabularyError` where no class is called so."""
        try:
            return self.names.index(name)
        except ValueError:
            raise VocabularyError(f"{self.name} has no class {name!r}") from None

    def holding_out(self, unseen: Collection[int]) -> Vocabulary:
        """The same classes with others unseen."""
        return replace(self, unseen=frozenset(unseen))

    def subset(self, which: str) -> Vocabulary:
        """The "seen", "unseen" or "all" classes, renumbered from 0 in the order they have here."""
        if which not in ("seen", "unseen", "all"):
            raise VocabularyError(f"subset: expected seen, unseen or all, found {which!r}")
        ids = {"seen": self.seen_ids, "unseen": self.unseen_ids, "all": range(len(self))}[which]
        return replace(
            self,
            name=self.name if which == "all" else f"{self.name} ({which})",
            names=tuple(self.names[c] for c in ids),
            unseen=frozenset(new for new, c in enumerate(ids) if c in self.unseen),
            label_ids=tuple(self.label_ids[c] for c in ids),
        )

    def lookup(self) -> np.ndarray:
        """(65536,) table from published label values to class ids; every other value is `ignore`.

        uint8 where `ignore` is 255, else uint16: `vocabulary.lookup()[label_map]`.
        """
        table = np.full(_VALUES, self.ignore, np.uint8 if self.ignore == 255 else np.uint16)
        table[list(self.label_ids)] = np.arange(len(self))
        return table

    def check_length(self, length: int, what: str) -> None:
        """Raise `VocabularyError` unless `what` has one entry per class."""
        if length != len(self):
            raise VocabularyError(
                f"{what}: expected {len(self)} classes, as in {self.name}, found {length}"
            )


def _few(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")


def palette(ids: np.ndarray) -> np.ndarray:
    """Colours of class ids by the rule of the PASCAL VOC development kit; 0 is black.

    The bits of the id go to red, green and blue in turn and fill each from its highest bit down, so
    that all ids below 2^24 have different colours.

    Parameters
    ----------
    ids : ndarray, any shape, integer, >= 0

    Returns
    -------
    ndarray, shape (*ids.shape, 3), uint8, RGB
    """
    ids = np.asarray(ids, np.int64)
    colours = np.zeros((*ids.shape, 3), np.uint8)
    for bit in range(24):
        colours[..., bit % 3] |= (((ids >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours


def synonyms(name: str) -> list[str]:
    """The synonyms that a class name lists: its parts between ", ", verbatim."""
    return name.split(", ")


def builtin(key: str) -> Vocabulary:
    """A vocabulary that comes with the package, by the stem of its file in `vocabularies/`.

    "coco_stuff" (171, 15 unseen), "voc" (20, 5 unseen) and "ade20k_full" (847, 275 unseen) are
    ZegFormer's, with their spelling; "pascal" and "coco" define no unseen classes.
    """
    folder = importlib.resources.files("data.text") / "vocabularies"
    known = sorted(entry.name.removesuffix(".json") for entry in folder.iterdir())
    if key not in known:
        raise VocabularyError(f"vocabulary: expected one of {', '.join(known)}, found {key!r}")
    return _from_json(key, json.loads((folder / f"{key}.json").read_text("utf-8")))


def from_names(names: Sequence[str], *, name: str = "class names") -> Vocabulary:
    """A vocabulary of free text, all classes seen."""
    return Vocabulary(name, tuple(names))


def from_file(path: str | Path, *, expected: int | None = None) -> Vocabulary:
    """Read class names: text with one per line, a JSON list, or a file like the built-in ones.

    Raises
    ------
    VocabularyError
        The file cannot be read, or does not have the `expected` number of names; names the file.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text) if path.suffix == ".json" else text.strip().splitlines()
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{path}: not text in UTF-8; save it with that encoding") from error
    except (OSError, ValueError, RecursionError) as error:
        raise VocabularyError(f"cannot read the class names {path}: {reason(error)}") from error
    if isinstance(content, list):
        content = {"names": content}
    vocabulary = _from_json(str(path), content)
    if expected is not None and len(vocabulary) != expected:
        raise VocabularyError(
            f"{path}: expected {expected} class names, found {len(vocabulary)}; "
            "write one name per line, without the background"
        )
    return vocabulary


def _from_json(name: str, content: object) -> Vocabulary:
    if not isinstance(content, dict):
        raise VocabularyError(f"{name}: expected a list of names")
    names = content.get("names")
    if not isinstance(names, list) or not all(isinstance(entry, str) for entry in names):
        raise VocabularyError(f"{name}: expected a list of names")
    try:
        labels = tuple(int(label) for label in content.get("label_ids", ()))
        ignore = int(content.get("ignore", 255))
        unseen = frozenset(int(c) for c in content.get("unseen", ()))
        vocabulary = Vocabulary(name, tuple(names), unseen, labels, ignore)
    except VocabularyError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise VocabularyError(
            f"{name}: expected lists of numbers for unseen and label_ids, and a number for ignore"
        ) from error
    if ignore in labels:
        raise VocabularyError(f"{name}: {ignore} is both a label id and the value to ignore")
    return vocabulary
