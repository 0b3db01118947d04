"""What the records of a sweep come to: counts, the best so far, the time left, a table."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from kdrec.artifacts import atomic_path, write_json
from kdrec.sweeps.records import DONE, FOUND, STATES, Record

SCHEMA = 1
_HOUR_S = 3600
_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Status:
    """A sweep at one moment.

    Args:
        records: Of the jobs that have begun.
        total: How many jobs there are; None if a sweeper makes them up as it goes.
    """

    records: Sequence[Record]
    total: int | None

    @property
    def counts(self) -> Counter[str]:
        """How many jobs there are in each state."""
        return Counter(record.state for record in self.records)

    @property
    def running(self) -> list[Record]:
        """The jobs under way."""
        return [record for record in self.records if record.runs]

    @property
    def ended(self) -> int:
        """How many jobs are over, well or badly."""
        return len(self.records) - len(self.running)

    @property
    def unfinished(self) -> list[Record]:
        """The jobs that ended without a result."""
        return [one for one in self.records if not one.runs and one.state not in (DONE, FOUND)]

    @property
    def best(self) -> Record | None:
        """The job with the highest value."""
        known = [record for record in self.records if record.value is not None]
        return max(known, key=lambda record: record.value or 0.0, default=None)

    def seconds_left(self) -> float | None:
        """About how long the rest takes: by the mean of the jobs done, and as many at once as now.

        None where nothing is known yet. A job that was found says nothing of one that is not.
        """
        took = [one.seconds for one in self.records if one.state == DONE and one.seconds]
        if self.total is None or not took or not self.running:
            return None
        mean = sum(took) / len(took)
        begun = [max(mean - record.elapsed(), 0.0) for record in self.running]
        waiting = (self.total - len(self.records)) * mean
        return max((waiting + sum(begun)) / len(begun), *begun)

    def counted(self) -> str:
        """`3 done, 1 found, 1 failed, 2 running`, what there is none of left out."""
        counts = self.counts
        return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])

    def write(self, folder: Path, **about: Any) -> None:
        """Writes `sweep.json` and `sweep.csv` into the sweep's folder, each in one step.

        Args:
            folder: The sweep's.
            **about: What else `sweep.json` is to say.
        """
        best = self.best
        left = self.seconds_left()
        counts = self.counts
        write_json(
            folder / "sweep.json",
            {
                "schema": SCHEMA,
                **about,
                "total": self.total,
                "counts": {state: counts[state] for state in STATES},
                "best": None if best is None else {"job": best.job, "value": best.value},
                "seconds_left": None if left is None else round(left, 1),
                "jobs": [asdict(record) for record in self.records],
            },
        )
        with atomic_path(folder / "sweep.csv") as path:
            path.write_text(self.as_csv(), "utf-8", newline="")

    def as_csv(self) -> str:
        """A row for each job that has begun."""
        out = io.StringIO()
        names = [field.name for field in fields(Record)]
        rows = csv.DictWriter(out, names, lineterminator="\n")
        rows.writeheader()
        for record in self.records:
            rows.writerow(asdict(record) | {"overrides": " ".join(record.overrides)})
        return out.getvalue()


def lasting(seconds: float) -> str:
    """`4.2 s`, `12 min`, `3 h 05 min`."""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    hours, rest = divmod(round(seconds / _MINUTE_S), 60)
    return f"{hours} h {rest:02d} min"
