"""Match the words of a user with class names, and with the rows of a table of text embeddings."""

from __future__ import annotations

from pathlib import Path

from data.errors import SettingError
from data.files import expanded
from data.text.vocabulary import Vocabulary, from_file, from_names

_SHOWN = 24  # names in a message


def class_id_of(name: str, vocabulary: Vocabulary) -> int | None:
    """Class id of a name or synonym, ignoring capitals and spaces; None where there is none."""
    ids = range(len(vocabulary))
    names = {_normalised(vocabulary.names[c]): c for c in reversed(ids)}
    synonyms = {_normalised(word): c for c in reversed(ids) for word in vocabulary.synonyms(c)}
    return (synonyms | names).get(_normalised(name))


def _normalised(name: str) -> str:
    # Data sets disagree on "tv monitor" and "tvmonitor".
    return "".join(name.casefold().split())


def unknown_names(words: Vocabulary, known: Vocabulary) -> list[str]:
    """The names of `words` that are no name or synonym of a class of `known`."""
    return [name for name in words.names if class_id_of(name, known) is None]


def split(words: str) -> list[str]:
    """The names in "cat, sofa", each once; empty ones are left out."""
    return list(dict.fromkeys(filter(None, (word.strip() for word in words.split(",")))))


def listed_classes(
    classes: str | tuple[str, ...] | None, default: Vocabulary, *, option: str = "--classes"
) -> Vocabulary:
    """The classes of `Options.classes`, all seen; None means the default.

    `option` is what they were given as, for messages.

    Raises
    ------
    VocabularyError
        The file cannot be read, or a name is empty or given twice.
    """
    if classes is None:
        return default
    if isinstance(classes, tuple):
        return from_names(classes, name="classes")
    path = expanded(classes)
    if path.suffix in (".txt", ".json"):
        return from_file(path)
    return from_names(split(classes), name=option)


def classes_of_table(rows: int, table: str, *candidates: Vocabulary) -> Vocabulary:
    """The first candidate with as many classes as a table has rows.

    Raises
    ------
    SettingError
        No candidate has.
    """
    for vocabulary in candidates:
        if len(vocabulary) == rows:
            return vocabulary
    expected = " or ".join(dict.fromkeys(f"{len(v)} ({v.name})" for v in candidates))
    raise SettingError(f"{table}: expected one row per class, {expected}; found {rows}")


def rows_of_table(
    words: Vocabulary, table: str, classes: Vocabulary, *, replaceable: bool = True
) -> list[int]:
    """The row of each word in a table with one row per class of `classes`.

    Parameters
    ----------
    replaceable : bool
        The table came from an option, so the error can suggest leaving it out.

    Raises
    ------
    SettingError
        A word is none of the classes.
    """
    if unknown := unknown_names(words, classes):
        names = ", ".join(classes.names[:_SHOWN]) + (", ..." if len(classes) > _SHOWN else "")
        remedy = (
            "other words need CLIP: leave the embeddings out"
            if replaceable
            else "the network was trained with these embeddings; choose among the names, or give "
            "a table of the same kind as embeddings"
        )
        raise SettingError(
            f"{', '.join(unknown[:5])}: no text embedding in {Path(table).name}, which has "
            f"{len(classes)} names ({names}); {remedy}"
        )
    rows = (class_id_of(name, classes) for name in words.names)
    return [row for row in rows if row is not None]
