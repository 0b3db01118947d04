"""Nothing that is read can run code: no unpickling, no evaluation of text, anywhere in kdrec."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

import kdrec
from kdrec.artifacts import write_manifest
from kdrec.data import table
from kdrec.errors import StorageError
from kdrec.stages.weights import misfit

PACKAGE = Path(kdrec.__file__).parent
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib",
           "pickletools", "jsonpickle"}  # fmt: skip
CALLS = {"torch.load", "np.load", "numpy.load", "pd.read_pickle", "pandas.read_pickle", "yaml.load",
         "yaml.unsafe_load", "yaml.full_load", "pd.read_hdf", "eval", "exec",
         "compile", "pd.eval"}  # fmt: skip
WORDS = {"allow_pickle", "read_pickle", "to_pickle", "unsafe_load", "weights_only"}


def unsafe(source: str) -> set[str]:
    """What in a source could unpickle, or run text."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} & MODULES
            found |= {alias.name for alias in node.names} & WORDS
        elif isinstance(node, ast.Call):
            found |= {ast.unparse(node.func)} & CALLS
            found |= {str(keyword.arg) for keyword in node.keywords} & WORDS
        elif isinstance(node, ast.Attribute):
            found |= {node.attr} & WORDS
    return found


def test_no_source_unpickles_or_runs_text() -> None:
    sources = sorted(PACKAGE.rglob("*.py"))
    assert len(sources) > 100
    found = {str(path): unsafe(path.read_text("utf-8")) for path in sources}
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "torch.load(f)", "np.load(f, allow_pickle=True)",
     "pd.read_pickle(f)", "yaml.load(t, Loader=yaml.Loader)", "eval(text)",
     "frame.to_pickle(f)"],
)  # fmt: skip
def test_what_unpickles_is_seen(source: str) -> None:
    assert unsafe(source)


class Payload:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


def test_a_parquet_file_with_a_pickled_type_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    kind = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Payload(trace)),
    }
    fields = [pa.field("user", pa.string(), metadata=kind), pa.field("item", pa.string())]
    made = pa.table({"user": ["a"], "item": ["b"]}).cast(pa.schema(fields))
    path = tmp_path / "x.parquet"
    parquet.write_table(made, path)
    options = {"rating": None, "timestamp": None, "split": None, "separator": None, "header": True}
    assert len(table.read([path], user="user", item="item", **options).frame) == 1
    assert len(pd.read_parquet(path)) == 1
    assert not trace.exists()
    pickle.loads(kind["ARROW:extension:metadata"])
    assert trace.exists(), "the payload works"


@pytest.mark.parametrize("name", ["model.safetensors", "per_user.parquet"])
def test_a_pickle_in_place_of_an_artefact_runs_nothing(tmp_path: Path, name: str) -> None:
    from safetensors.torch import load_file

    folder = tmp_path / "run"
    folder.mkdir()
    trace = tmp_path / "trace"
    (folder / name).write_bytes(pickle.dumps(Payload(trace)))
    run = write_manifest(folder, {"identity": "a", "finished": "b"})  # even with a right checksum
    read = load_file if name.endswith("safetensors") else pd.read_parquet
    with pytest.raises(Exception, match=r"(?i)header|parquet"):
        read(run.file(name))
    assert not trace.exists()


def test_weights_are_compared_by_name_shape_and_type() -> None:
    state = {"a": torch.zeros(2, 3), "b": torch.zeros(1)}
    assert misfit(state, {name: part + 1 for name, part in state.items()}) == ""
    assert misfit(state, {"a": state["a"]}) == "expected a, b; found a"
    assert "expected a [2, 3] torch.float32; found [3, 2]" in misfit(
        state, state | {"a": torch.zeros(3, 2)}
    )
    assert "torch.float64" in misfit(state, state | {"b": torch.zeros(1, dtype=torch.float64)})


def test_weights_of_another_split_are_refused(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from kdrec.stages.weights import load_model

    run = SimpleNamespace(folder=tmp_path, manifest={"labels": {"split": "a" * 64}})
    split = SimpleNamespace(digest="b" * 64)
    data = SimpleNamespace(prepared=SimpleNamespace(split=split), folder=tmp_path)
    with pytest.raises(StorageError, match=r"split aaaaaaaaaaaa, and this is bbbbbbbbbbbb"):
        load_model(run, {}, data, torch.device("cpu"))
