"""From manifests to runs that can be compared. Nothing but manifests says that a run exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kdrec.artifacts import MANIFEST, RUN_PATTERNS, Run, read_manifest
from kdrec.digests import digest
from kdrec.errors import StorageError

_LABELS = ("dataset", "protocol", "split", "role", "model", "method")
_METRICS = ["target", "scope", "group", "form", "metric", "value", "n_users"]


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """One finished, evaluated run.

    Args:
        folder: Its directory.
        identity: Digest of what determined the model.
        evaluation: Digest of how it was evaluated.
        data: Digest of what determined the split, its seed excepted.
        labels: What it is: data set, protocol, split, role, model, dim, method, teacher, seeds.
        settings: Flat dotted options that determine the result, seeds excepted.
        stats: The data set's statistics.
        metrics: Value by (target, scope, group, form, metric).
        users: How many users each value is of, by the same keys.
        training: Epochs and seconds of its training.
        cost: Device, threads and peak memory of the process.
        finished: When, in ISO 8601.
        artifacts: sha256 by name of its files.
    """

    folder: Path
    identity: str
    evaluation: str
    data: str
    labels: Mapping[str, Any]
    settings: Mapping[str, Any]
    stats: Mapping[str, Any]
    metrics: Mapping[tuple[str, str, str, str, str], float]
    users: Mapping[tuple[str, str, str, str, str], int]
    training: Mapping[str, Any]
    cost: Mapping[str, Any]
    finished: str
    artifacts: Mapping[str, str]

    def file(self, name: str) -> Path:
        """The path of an artefact, after its sha256 has been checked.

        Raises:
            StorageError: If the file is missing or its bytes are not those that were written.
        """
        return Run(self.folder, {"artifacts": self.artifacts}).file(name)


@dataclass(frozen=True, slots=True)
class Collected:
    """What was found.

    Args:
        runs: Finished runs, the newest of each identity and evaluation, oldest first.
        problems: A sentence for each manifest that could not be used.
    """

    runs: list[Finished]
    problems: list[str]


def collect(output_dir: Path, *, folders: Sequence[Path] | None = None) -> Collected:
    """Reads the manifests below `output_dir`.

    Args:
        output_dir: Holds `runs/` and `sweeps/`.
        folders: If given, only these run directories.
    """
    if folders is None:
        paths = [path for pattern in RUN_PATTERNS for path in sorted(output_dir.glob(pattern))]
    else:
        paths = [Path(folder) / MANIFEST for folder in folders]
    newest: dict[tuple[str, str], Finished] = {}
    problems = []
    for path in paths:
        try:
            run = _read(path)
        except StorageError as error:
            problems.append(error.what)
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{path} is not a manifest of this version of kdrec: {_why(error)}.")
            continue
        if run is None:
            continue
        key = (run.identity, run.evaluation)
        if key not in newest or newest[key].finished <= run.finished:
            newest[key] = run
    return Collected(sorted(newest.values(), key=lambda run: run.finished), problems)


def _why(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")


def _read(path: Path) -> Finished | None:
    """The run of a manifest; None for a stage that has nothing to report."""
    manifest = read_manifest(path)
    if not manifest.get("metrics"):
        return None
    labels = manifest["labels"]
    for name in _LABELS:
        labels[name]  # raises if it is missing
    rows = pd.DataFrame(manifest["metrics"], columns=_METRICS).dropna(subset=["value"])
    return Finished(
        folder=path.parent,
        identity=str(manifest["identity"]),
        evaluation=str(manifest["evaluation"]),
        data=_data(labels, manifest.get("config") or {}),
        labels=labels,
        settings=manifest["settings"],
        stats=manifest.get("stats") or {},
        metrics={tuple(row[:5]): float(row[5]) for row in rows.itertuples(index=False)},
        users={tuple(row[:5]): int(row[6]) for row in rows.itertuples(index=False)},
        training=manifest.get("training") or {},
        cost={key: manifest.get(key) for key in ("device", "threads", "peak_memory_bytes")},
        finished=str(manifest["finished"]),
        artifacts={str(name): str(value) for name, value in manifest["artifacts"].items()},
    )


def _data(labels: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Digest of the options that make the split, but for its seed and where files lie."""
    dataset = {
        key: value
        for key, value in (config.get("dataset") or {}).items()
        if key not in ("path", "files", "licence", "citation")
    }
    if config.get("dataset") and not config["dataset"].get("files"):
        dataset["path"] = config["dataset"].get("path")
    return digest([labels["dataset"], labels["protocol"], dataset, config.get("protocol")])
