"""A prepared data set on disk: parquet, and a manifest that is written last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from kdrec.artifacts import atomic_dir, read_json, write_json
from kdrec.data.interactions import Interactions, Split
from kdrec.data.preprocess import Prepared
from kdrec.digests import sha256_file
from kdrec.errors import StorageError

SCHEMA = 1
MANIFEST = "manifest.json"
PARTS = ("train", "valid", "test", "unbiased")


def save(prepared: Prepared, folder: Path) -> None:
    """Writes the folder whole, or not at all; what stands there is replaced.

    Files: `train.parquet`, `valid.parquet`, `test.parquet` and where known `unbiased.parquet`
    (columns user, item: indices), `users.parquet` and `items.parquet` (row = index, column id),
    `stats.json`, and last `manifest.json` with the sha256 of each.
    """
    with atomic_dir(folder) as temporary:
        for part in PARTS:
            pairs: Interactions | None = getattr(prepared.split, part)
            if pairs is not None:
                frame = DataFrame({"user": pairs.users, "item": pairs.items})
                frame.to_parquet(temporary / f"{part}.parquet", index=False)
        prepared.users.to_parquet(temporary / "users.parquet", index=False)
        prepared.items.to_parquet(temporary / "items.parquet", index=False)
        write_json(temporary / "stats.json", prepared.stats)
        files = {path.name: sha256_file(path) for path in sorted(temporary.iterdir())}
        write_json(
            temporary / MANIFEST,
            {"schema": SCHEMA, "digest": prepared.split.digest, "files": files},
        )


def exists(folder: Path) -> bool:
    """Whether a whole data set was written there."""
    return (folder / MANIFEST).is_file()


def listed(manifest: Any, where: object) -> dict[str, str]:
    """The sha256 of each file that a parsed manifest names.

    Args:
        manifest: As JSON gave it.
        where: Its path or address, for the message.

    Raises:
        StorageError: If it is not the manifest of a data set of this version.
    """
    again = "Remove its folder and run `kdrec preprocess` again."
    try:
        schema, _ = int(manifest["schema"]), str(manifest["digest"])
        files = {str(name): str(value) for name, value in manifest["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(f"{where} is not a manifest: {error!r}.", again) from error
    if schema != SCHEMA:
        raise StorageError(f"{where} has schema {schema}; this kdrec reads {SCHEMA}.", again)
    return files


def load(folder: Path) -> Prepared:
    """Reads what `save` wrote, after checking every file.

    Raises:
        StorageError: If there is no manifest, or a file is missing or not the one that was written;
            the message names it.
    """
    again = f"Remove {folder} and run `kdrec preprocess` again."
    if not exists(folder):
        raise StorageError(f"{folder} holds no finished data set: it has no {MANIFEST}.", again)
    manifest = read_json(folder / MANIFEST)
    files = listed(manifest, folder / MANIFEST)
    digest = str(manifest["digest"])
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise StorageError(f"{path} is missing.", again)
        if (actual := sha256_file(path)) != expected:
            raise StorageError(
                f"{path} is damaged: sha256 {actual[:12]}..., {expected[:12]}... was written.",
                again,
            )
    ids = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("users", "items")}
    sizes = {"n_users": len(ids["users"]), "n_items": len(ids["items"])}
    parts: dict[str, Interactions] = {}
    for part in PARTS:
        if f"{part}.parquet" in files:
            frame = pd.read_parquet(folder / f"{part}.parquet")
            parts[part] = Interactions(
                frame["user"].to_numpy(np.int64, copy=True),
                frame["item"].to_numpy(np.int64, copy=True),
                **sizes,
            )
    split = Split(**parts)
    if split.digest != digest:
        raise StorageError(
            f"{folder} has the digest {split.digest[:12]}, not {digest[:12]}.", again
        )
    stats = json.loads((folder / "stats.json").read_text("utf-8"))
    return Prepared(split=split, users=ids["users"], items=ids["items"], stats=stats)
