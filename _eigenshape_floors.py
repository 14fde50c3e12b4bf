"""Report another package or module that hides one of ours.

Our packages have common names (`data`, `models`, `train`, `eval`), and Python imports whichever
comes first on `sys.path`. This module has a unique name and imports none of our packages, so it
runs even where they are hidden. docs/api.md explains why the packages keep their names.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent


def require(*names: str) -> None:
    """Check that `import` finds our top-level packages of these names.

    The check imports nothing.

    Raises
    ------
    ImportError
        Another package, module or folder of that name comes first, or was imported already; the
        message names both.
    """
    for name in names:
        origin, where = _locate(name)
        if origin is None or Path(origin).resolve().parent != _ROOT / name:
            imported = " and was imported already" if name in sys.modules else ""
            raise ImportError(
                f"eigenshape needs its own package {name!r} ({_ROOT / name}), but another {name!r} "
                f"comes first on sys.path{imported}: {where}. Rename that one, or run Python where "
                "it is not found: `python -P` leaves out the current folder and the script's own",
                name=name,
            )


def _locate(name: str) -> tuple[str | None, str]:
    """The file that `import name` would load, or None, and a description of where it is."""
    if name in sys.modules:
        module = sys.modules[name]
        origin, folders = getattr(module, "__file__", None), getattr(module, "__path__", ())
    else:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None, "no package of that name is installed"
        origin, folders = spec.origin, spec.submodule_search_locations or ()
    # A folder without `__init__.py` is a namespace package and has no file.
    return origin, str(origin or next(iter(folders), "a module without a file"))
