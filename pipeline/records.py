"""The record of a job: what it did with each photo, how long that took, and with what software.

A JSON file beside the job's result. The eigenvectors of a photo are the same bytes in every run,
its seconds are not: so they are here and not in the shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data.files import atomic_path
from pipeline.outcome import Outcome


@dataclass
class Record:
    """Outcome of a stage over a shard.

    Attributes
    ----------
    stage : str
    seconds : dict of str to float
        Time each finished photo took in its worker.
    quarantine : dict of str to str
        Reason for each photo that was quarantined here.
    provenance : dict
        See `pipeline.provenance.collect`.
    """

    stage: str
    seconds: dict[str, float] = field(default_factory=dict)
    quarantine: dict[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def add(self, outcome: Outcome[Any]) -> None:
        """Enter one photo."""
        if outcome.value is None:
            self.quarantine[outcome.id] = outcome.reason
        else:
            self.seconds[outcome.id] = round(outcome.seconds, 4)

    def write(self, path: str | Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False))


def read_all(paths: Iterable[str | Path]) -> list[Record]:
    """Read records, in the order of the paths."""
    return [Record(**json.loads(Path(path).read_text())) for path in paths]
