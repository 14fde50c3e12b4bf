"""The page around the sections: one self-contained file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from data.errors import SettingError
from data.files import atomic_path
from eval.report.templates import fill, source


@dataclass(frozen=True)
class Section:
    """One titled part of the page.

    Attributes
    ----------
    title : str
        Heading, unique within the page, from which `anchor` derives the link to the section.
    body : Markup
        HTML below the heading, with everything from outside escaped.
    filterable : bool
        The section has lists that the filter box applies to.
    ordered : bool
        Its lists can also be ordered by residual and time.
    """

    title: str
    body: Markup
    filterable: bool = False
    ordered: bool = False

    @property
    def anchor(self) -> str:
        """Fragment of the page's address: the title in lower case, words joined by hyphens."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def render(sections: Sequence[Section], *, title: str) -> str:
    """HTML of a page of sections, in their order.

    Raises
    ------
    SettingError
        Two sections have one anchor.
    """
    anchors = [section.anchor for section in sections]
    for section in sections:
        if anchors.count(section.anchor) > 1:
            raise SettingError(
                f"report: expected different titles, found two sections titled {section.title!r}; "
                "rename one, since links within the page use them"
            )
    script = source("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = fill(
        "page.html",
        title=title,
        sections=sections,
        style=Markup(source("style.css")),
        script=Markup(script),
        script_hash=digest,
    )
    return str(page)


def write(path: str | Path, sections: Sequence[Section], *, title: str) -> None:
    """Write a page of sections as one self-contained HTML file, whole or not at all.

    Raises
    ------
    SettingError
        Two sections have one anchor.
    OSError
        The file cannot be written.
    """
    page = render(sections, title=title)
    with atomic_path(path) as temporary:
        # File names that are not UTF-8 reach us as lone surrogates, which cannot be encoded.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
