"""Finished runs that another machine has made, copied to where a run made here would lie."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdrec.artifacts import Json, Run, check_manifest, finished_runs, new_run_folder
from kdrec.errors import StorageError, cannot_write
from kdrec.locks import lock
from kdrec.share.store import Entry, Share


def bring(
    share: Share,
    output_dir: Path,
    identity: str,
    *,
    evaluation: str | None,
    wanted: Callable[[Json], bool],
) -> Run | None:
    """The newest wanted run of an identity in the share, copied here; None if there is none.

    Args:
        share: Where to look.
        output_dir: Holds `runs/`.
        identity: Of the run.
        evaluation: Of the run; None for any.
        wanted: Says of a manifest whether it is looked for.
    """
    found = [entry for entry in _entries(share, identity, evaluation) if wanted(entry.content)]
    for entry in sorted(found, key=lambda one: str(one.content["finished"]), reverse=True):
        with lock(output_dir / ".locks" / f"{identity[:16]}.copy.lock", "a copy of the same run"):
            run = _here(output_dir, entry) or _copied(share, output_dir, entry)
        if run is not None:
            return run
    return None


def publish(share: Share, run: Run, *, replace: bool) -> None:
    """Copies a finished run to the share."""
    key = f"{_key(run.identity)}/{str(run.manifest.get('evaluation'))[:8]}"
    share.publish(key, run.folder, run.manifest["artifacts"], replace=replace)


def _key(identity: str) -> str:
    return f"runs/{identity}"


def _entries(share: Share, identity: str, evaluation: str | None) -> Iterator[Entry]:
    """The runs of an identity; one under a key that is not its own is refused."""

    def listed(content: object, name: str) -> Mapping[str, str]:
        manifest: dict[str, Any] = check_manifest(content, name)
        matches = manifest.get("identity") == identity
        if not matches or evaluation not in (None, manifest.get("evaluation")):
            raise StorageError(f"{name} is of another run.")
        if {"finished", "artifacts", "command"} - manifest.keys():
            raise StorageError(f"{name} is not the manifest of a run.")
        return {str(key): str(value) for key, value in manifest["artifacts"].items()}

    if evaluation is not None:
        keys = [f"{_key(identity)}/{evaluation[:8]}"]
    else:
        keys = share.keys(_key(identity))
    for key in keys:
        if (entry := share.find(key, listed)) is not None:
            yield entry


def _here(output_dir: Path, entry: Entry) -> Run | None:
    """The copy that another process has made in the meantime."""
    alike = finished_runs(output_dir, str(entry.content["identity"]))
    same = (run for run in alike if run.manifest == entry.content)
    return next(same, None)


def _copied(share: Share, output_dir: Path, entry: Entry) -> Run | None:
    folder = new_run_folder(
        output_dir, str(entry.content["command"]), str(entry.content["identity"])
    )
    return Run(folder, entry.content) if share.fetch(entry, _kept_if_whole(folder)) else None


@contextmanager
def _kept_if_whole(folder: Path) -> Iterator[Path]:
    """The folder, removed where the block raises.

    Until the manifest is in place nobody takes it for a run; a folder moved there whole would be
    found under its first name, too.
    """
    try:
        yield folder
    except OSError as error:
        shutil.rmtree(folder)
        raise cannot_write(error, folder) from error
    except BaseException:
        shutil.rmtree(folder)
        raise
