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
    """Text of a file next to this one."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def fill(name: str, **values: Any) -> Markup:
    """Render a template; a missing value is an error, not a blank."""
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
    """An eigenvalue with four significant digits: 0.01234; zero and rounding errors as 0."""
    return "0" if abs(number) < 1e-12 else f"{number:.4g}"


def tiny(number: float) -> str:
    """A residual with two significant digits, 3.2e-9, or "not finite"."""
    if not math.isfinite(number):
        return "not finite"
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa}e{int(exponent):+d}"


def seconds(duration: float | None) -> str:
    """A duration in a suitable unit, or a dash if it is unknown."""
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
    """Compact JSON that cannot close the script element around it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
