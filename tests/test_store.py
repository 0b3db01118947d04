"""A prepared data set on disk comes back the same, or is refused by the name of the bad file."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from kdrec.data import splits, store
from kdrec.data.preprocess import prepare
from kdrec.data.raw import RawData
from kdrec.errors import KdrecError


@pytest.fixture
def prepared():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"user": [f"u{n}" for n in rng.integers(0, 30, 400)], "item": rng.integers(0, 60, 400)}
    )
    unbiased = pd.DataFrame({"user": ["u1", "u2"] * 20, "item": np.arange(40)})
    return prepare(
        RawData(frame, unbiased),
        min_rating=None,
        min_user=2,
        min_item=2,
        core=True,
        protocol=partial(splits.ratio, test=0.1, valid=0.1),
        seed=3,
    )


def test_it_comes_back_the_same(prepared, tmp_path):
    store.save(prepared, tmp_path / "set")
    loaded = store.load(tmp_path / "set")
    assert loaded.split.digest == prepared.split.digest
    assert len(loaded.split.unbiased) == len(prepared.split.unbiased) > 0
    assert loaded.users["id"].tolist() == prepared.users["id"].tolist()
    assert loaded.items["id"].tolist() == prepared.items["id"].tolist()
    assert loaded.stats == prepared.stats


def test_it_is_there_only_when_it_is_whole(prepared, tmp_path):
    folder = tmp_path / "set"
    assert not store.exists(folder)
    store.save(prepared, folder)
    assert store.exists(folder)
    (folder / "manifest.json").unlink()
    assert not store.exists(folder)
    with pytest.raises(KdrecError, match=r"no finished data set(?s:.)*kdrec preprocess"):
        store.load(folder)


def test_saving_again_replaces(prepared, tmp_path):
    folder = tmp_path / "set"
    store.save(prepared, folder)
    (folder / "left_over.parquet").write_text("x")
    store.save(prepared, folder)
    assert not (folder / "left_over.parquet").exists()
    assert store.load(folder).split.digest == prepared.split.digest


@pytest.mark.parametrize("name", ["train.parquet", "unbiased.parquet", "items.parquet"])
def test_a_changed_file_is_named(prepared, tmp_path, name):
    store.save(prepared, tmp_path / "set")
    path = tmp_path / "set" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(KdrecError, match=rf"{name} is damaged"):
        store.load(tmp_path / "set")
    path.unlink()
    with pytest.raises(KdrecError, match=rf"{name} is missing"):
        store.load(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "says"), [({"schema": 99}, "schema 99"), ({"files": None}, "not a manifest")]
)
def test_a_strange_manifest_is_refused(prepared, tmp_path, change, says):
    store.save(prepared, tmp_path / "set")
    path = tmp_path / "set" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(KdrecError, match=says):
        store.load(tmp_path / "set")
