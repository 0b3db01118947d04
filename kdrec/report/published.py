"""The numbers of a paper, as `conf/paper/` has them, and what they claim."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdrec.errors import UsageError
from kdrec.report.entries import Key
from kdrec.report.preset import column


@dataclass(frozen=True, slots=True)
class Published:
    """What a paper reports.

    Args:
        title: What it is called in a sentence.
        source: Its reference.
        values: Number by data set, student's model, method and metric.
        statistics: The sizes it gives of each data set.
    """

    title: str
    source: str
    values: Mapping[tuple[str, str, str, Key], float]
    statistics: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, name: str, content: Mapping[str, Any]) -> Published:
        """Reads the content of `conf/paper/NAME.yaml`.

        Raises:
            UsageError: If a line has another number of values than there are columns.
        """
        keys = [column(text, f"conf/paper/{name}.yaml").key for text in content["columns"]]
        values = {}
        for dataset, of_student in (content.get("results") or {}).items():
            for student, of_method in of_student.items():
                for method, numbers in of_method.items():
                    if len(numbers) != len(keys):
                        raise UsageError(
                            f"conf/paper/{name}.yaml: {dataset}, {student}, {method} has "
                            f"{len(numbers)} numbers, not {len(keys)}.",
                            "Write null for a number that is not reported.",
                        )
                    for key, value in zip(keys, numbers, strict=True):
                        if value is not None:
                            values[dataset, student, method, key] = float(value)
        statistics = content.get("statistics") or {}
        return cls(str(content["title"]), str(content["source"]), values, statistics)

    def value(self, dataset: str, student: str, method: str, key: Key) -> float:
        """Its number, NaN if it has none."""
        return self.values.get((dataset, student, method, key), math.nan)


NOTHING_PUBLISHED = Published("", "", {}, {})
"""Stands for the paper where a preset names none."""
