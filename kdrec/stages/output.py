"""Results go to standard output, for a reader or for a program."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from kdrec import hangup
from kdrec.artifacts import MANIFEST, Run
from kdrec.stages.context import Context


def wants_json() -> bool:
    """Whether the command was given `--json`."""
    return os.environ.get("KDREC_JSON") == "1"


def show_json(value: object) -> None:
    """One JSON document on standard output."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """One line on standard output."""
    hangup.tell(f"{text}\n")


def drop_unused(context: Context) -> None:
    """Removes the folder that Hydra made for this command, if nothing was finished in it."""
    folder = context.folder
    if not folder.is_dir() or (folder / MANIFEST).exists():
        return
    if all(path.name == ".hydra" or path.suffix == ".log" for path in folder.iterdir()):
        shutil.rmtree(folder)


def show_run(run: Run, context: Context) -> float | None:
    """Shows one finished run's tables and where it is; returns its validation NDCG.

    A closed form has not been validated during training: None.
    """
    manifest = run.manifest
    if wants_json():
        show_json({"folder": str(run.folder), **{key: manifest[key] for key in
                   ("identity", "labels", "settings", "training", "metrics")}})  # fmt: skip
    else:
        from kdrec.report.render import console, summary  # noqa: PLC0415  (rich is slow)

        labels = manifest["labels"]
        summary(
            list(manifest["metrics"]),
            f"{labels['name']} on {labels['dataset']} (protocol {labels['protocol']})",
            console(),
        )
        say(f"Kept in {run.folder}")
    if Path(run.folder).resolve() != context.folder.resolve():
        drop_unused(context)
    value = manifest["training"].get("best_value")
    return None if value is None else float(value)
