"""Report another package or module that hides one of ours.

Our packages have common names (`data`, `models`, `train`, `eval`), and Python imports whichever
comes first on `sys.path`. This module has a name of its own and imports nothing of ours, so it
still runs where they are hidden. docs/api.md explains why the packages keep their names.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent


def require(*names: str) -> None:
    """Check that each of our top-level packages is the one that `import` finds.

    Nothing is imported by the check.

    Raises
    ------
    ImportError
        Another package, module or folder of that name comes first, or was imported already; names
        both.
    """
    for name in names:
        origin, where = _found(name)
        if origin is None or Path(origin).resolve().parent != _ROOT / name:
            imported = " and was imported already" if name in sys.modules else ""
            raise ImportError(
                f"eigenshape needs its own package {name!r} ({_ROOT / name}), but another {name!r} "
                f"comes first on sys.path{imported}: {where}. Rename that one, or run Python where "
                "it is not found: `python -P` leaves out the current folder and the script's own",
                name=name,
            )


def _found(name: str) -> tuple[str | None, str]:
    """The file that defines what `import name` gives, and a description of its place."""
    if name in sys.modules:
        module = sys.modules[name]
        origin, folders = getattr(module, "__file__", None), getattr(module, "__path__", ())
    else:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None, "nothing of that name is found"
        origin, folders = spec.origin, spec.submodule_search_locations or ()
    # A folder without `__init__.py` is a namespace package and has no file.
    return origin, str(origin or next(iter(folders), "a module without a file"))
