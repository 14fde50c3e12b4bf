"""Templates of the report, and how it writes numbers. Everything filled in is escaped."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

UNKNOWN = "\N{EN DASH}"
_FOLDER = Path(__file__).parent


def source(name: str) -> str:
    """Text of a file beside this one."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def fill(name: str, **values: Any) -> Markup:
    """The template of this name with its values; a missing value is an error, not a blank."""
    return Markup(_environment().get_template(name).render(**values))


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=count, embedded_json=embedded_json, seconds=seconds, tiny=tiny, value=value
    )
    return environment


def count(number: int) -> str:
    """12000 as 12,000."""
    return f"{number:,}"


def value(number: float) -> str:
    """An eigenvalue by four significant digits: 0.01234; exact zero and solver noise as 0."""
    return "0" if abs(number) < 1e-12 else f"{number:.4g}"


def tiny(number: float) -> str:
    """A residual by two significant digits, 3.2e-9; one that is not finite is said to be so."""
    if not math.isfinite(number):
        return "not finite"
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa}e{int(exponent):+d}"


def seconds(duration: float | None) -> str:
    """A duration by the unit that suits it, or a dash where it is not known."""
    if duration is None:
        return UNKNOWN
    if duration < 1:
        return f"{duration * 1000:.0f} ms"
    if duration < 120:
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def embedded_json(data: Any) -> Markup:
    """Compact JSON that may stand inside a script element: it cannot close one."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
