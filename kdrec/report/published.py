"""The numbers of a paper, as `conf/paper/` has them, and what they claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdrec.errors import UsageError
from kdrec.report.entries import Key
from kdrec.report.section import column


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
            UsageError: If something is missing or of another form, or a line has another number
                of values than there are columns.
        """
        file = f"conf/paper/{name}.yaml"
        for needed in ("title", "source", "columns"):
            if not content.get(needed):
                raise UsageError(f"{file} has no {needed}.", "It needs title, source and columns.")
        texts = content["columns"]
        if not isinstance(texts, list | tuple):
            raise UsageError(f"{file}: columns={texts!r} is no list.", "columns: [recall@10]")
        keys = [column(text, file).key for text in texts]
        values = {}
        for dataset, of_student in _below(content.get("results"), file, "results"):
            for student, of_method in _below(of_student, file, f"results.{dataset}"):
                for method, numbers in _below(of_method, file, f"results.{dataset}.{student}"):
                    for key, value in zip(
                        keys, _numbers(numbers, len(keys), file, dataset, student, method),
                        strict=True,
                    ):  # fmt: skip
                        if value is not None:
                            values[dataset, student, method, key] = float(value)
        statistics = {
            dataset: dict(_below(sizes, file, f"statistics.{dataset}"))
            for dataset, sizes in _below(content.get("statistics"), file, "statistics")
        }
        return cls(str(content["title"]), str(content["source"]), values, statistics)

    def value(self, dataset: str, student: str, method: str, key: Key) -> float:
        """Its number, NaN if it has none."""
        return self.values.get((dataset, student, method, key), math.nan)


def _below(node: Any, file: str, where: str) -> list[tuple[str, Any]]:
    """What a part of the file holds, by name; nothing where it is left out."""
    if node is None:
        return []
    if not isinstance(node, Mapping):
        raise UsageError(f"{file}: {where}={node!r} has no names below it.", "Write NAME: ...")
    return [(str(key), value) for key, value in node.items()]


def _numbers(numbers: Any, n: int, file: str, *names: str) -> Sequence[float | None]:
    """A line of the results, with a number or null for each column."""
    line = ", ".join(names)
    if not isinstance(numbers, list | tuple) or not all(
        one is None or (isinstance(one, int | float) and not isinstance(one, bool))
        for one in numbers
    ):
        raise UsageError(f"{file}: {line} is {numbers!r}.", "Write a list of numbers.")
    if len(numbers) != n:
        raise UsageError(
            f"{file}: {line} has {len(numbers)} numbers, not {n}.",
            "Write null for a number that is not reported.",
        )
    return numbers


NOTHING_PUBLISHED = Published("", "", {}, {})
"""Stands for the paper where a preset names none."""
