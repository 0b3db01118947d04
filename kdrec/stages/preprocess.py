"""Raw files to a split: filtered, reindexed, parted, and kept under its identity."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig

from kdrec.artifacts import atomic_dir, read_json
from kdrec.data.preprocess import Prepared, prepare
from kdrec.data.sources import fetch
from kdrec.data.store import MANIFEST, exists, listed, load, save
from kdrec.digests import digest, sha256_file
from kdrec.errors import KdrecError
from kdrec.locks import lock
from kdrec.progress import task
from kdrec.stages.context import Context, options, plain, repeated
from kdrec.stages.instances import instantiate
from kdrec.stages.output import drop_unused, show_json, wants_json

log = logging.getLogger(__name__)

#: Raised when the same configuration begins to give another split.
VERSION = 1


class Identified(Protocol):
    """What has an identity, as a split has before it is made."""

    @property
    def identity(self) -> str:
        """What determines it, as a digest."""


@dataclass(frozen=True, slots=True)
class Data:
    """A prepared data set and what determined it."""

    prepared: Prepared
    identity: str
    folder: Path


def fetch_files(cfg: DictConfig, context: Context) -> list[Path]:
    """The raw files of the data set, downloaded if need be."""
    return fetch(
        name=cfg.dataset.name,
        files=plain(cfg.dataset.files),
        raw_dir=context.data_dir / "raw",
        path=cfg.dataset.path,
    )


def source(cfg: DictConfig, context: Context) -> list[str]:
    """The sha256 of each raw file: as pinned, else of the file that is there."""
    pinned = [file.get("sha256") for file in cfg.dataset.files]
    if cfg.dataset.path is None and all(pinned):
        return [str(value) for value in pinned]
    return [sha256_file(path) for path in fetch_files(cfg, context)]


def how_to_preprocess(overrides: list[str]) -> str:
    """Which command makes the split of a later command."""
    keys = ("dataset", "protocol", "split_seed", "data_dir", "output_dir", "share", "allow_code")
    words = repeated(overrides, keys)
    if words is None:
        return "Run the same command with upstream=make."
    return " ".join(["Run: kdrec preprocess", *words])


def ensure_split(cfg: DictConfig, context: Context, *, own: bool = False) -> Data:
    """The split of this configuration, made if it is not there.

    Raises:
        KdrecError: If it is missing and `upstream=require`.
    """
    dataset: dict[str, Any] = plain(cfg.dataset)
    identity = digest(
        {
            "kind": "split",
            "version": VERSION,
            "reader": options(dataset["reader"]),
            "filters": dataset["filters"],
            "source": source(cfg, context),
            "splitter": options(plain(cfg.protocol.splitter)),
            "seed": cfg.split_seed,
        }
    )
    folder = context.data_dir / "processed" / cfg.dataset.name / identity[:16]
    with lock(context.data_dir / ".locks" / f"{identity[:16]}.lock", f"the split {folder}"):
        redo = own and context.force
        if not redo and _is_here(context, identity, folder):
            found = Data(load(folder), identity, folder)
            _publish(context, identity, folder)
            return found
        if context.require and not own:
            raise KdrecError(
                f"The split {folder} is missing, and upstream=require.",
                how_to_preprocess(context.overrides),
            )
        with context.made_once(identity, f"the split {folder.name} of {cfg.dataset.name}"):
            waited = context.share is not None and not redo
            if not (waited and _is_here(context, identity, folder)):
                _make(cfg, context, folder)
                _publish(context, identity, folder, replace=redo)
        return Data(load(folder), identity, folder)


def _make(cfg: DictConfig, context: Context, folder: Path) -> None:
    """Makes the split from the raw files."""
    dataset: dict[str, Any] = plain(cfg.dataset)
    files = fetch_files(cfg, context)
    with task(f"preprocessing {cfg.dataset.name}", total=3, unit="step") as progress:
        raw = instantiate(cfg.dataset.reader)(files)
        progress.advance()
        if "split" in raw.frame and cfg.protocol.name != "given":
            log.warning(
                "%s comes with a split of its own, and protocol=%s makes another; to use its "
                "own: protocol=given",
                cfg.dataset.name,
                cfg.protocol.name,
            )
        prepared = prepare(
            raw,
            **dataset["filters"],
            protocol=instantiate(cfg.protocol.splitter),
            seed=cfg.split_seed,
        )
        progress.advance()
        save(prepared, folder)
        progress.advance()
    log.info("Split kept in %s", folder)


def _is_here(context: Context, identity: str, folder: Path) -> bool:
    """Whether the split is in its folder, copied from the share if need be."""
    if exists(folder) or context.share is None:
        return exists(folder)
    entry = context.share.find(_key(identity), listed)
    return entry is not None and context.share.fetch(entry, atomic_dir(folder))


def _publish(context: Context, identity: str, folder: Path, *, replace: bool = False) -> None:
    """Shows the split to other machines."""
    if context.share is not None:
        files = listed(read_json(folder / MANIFEST), folder / MANIFEST)
        context.share.publish(_key(identity), folder, files, replace=replace)


def _key(identity: str) -> str:
    return f"splits/{identity}"


def run(cfg: DictConfig) -> float | None:
    """`kdrec preprocess`: makes the split and shows its statistics."""
    context = Context.of(cfg)
    data = ensure_split(cfg, context, own=True)
    if wants_json():
        show_json({"folder": str(data.folder), "identity": data.identity, **data.prepared.stats})
    else:
        from kdrec.report.dataset import show_statistics  # noqa: PLC0415  (rich is slow)
        from kdrec.report.render import console  # noqa: PLC0415

        title = f"{cfg.dataset.name}, protocol {cfg.protocol.name}"
        show_statistics(data.prepared.stats, title, console())
    drop_unused(context)
    return None
