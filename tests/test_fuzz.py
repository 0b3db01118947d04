"""Readers and the command line, fed what nobody meant: a result or one message, never a traceback.

`KDREC_FUZZ=300` asks for that many examples of each, in place of the few of an ordinary run.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import string
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdrec.cli import confdir
from kdrec.cli.forward import checking
from kdrec.cli.line import Line
from kdrec.cli.search import line_of
from kdrec.data import amazon, citeulike, lightgcn, movielens, table
from kdrec.data.archives import unpack, whole
from kdrec.data.lines import read_int_lines
from kdrec.data.raw import RawData
from kdrec.errors import KdrecError, UsageError
from tests.program import kd

N = int(os.environ.get("KDREC_FUZZ", "60"))
fuzzed = settings(
    max_examples=N,
    deadline=None,
    derandomize="KDREC_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
COLUMNS = {"user": "user", "item": "item", "rating": "rating", "timestamp": "timestamp",
           "split": None, "separator": None, "header": True}  # fmt: skip

READERS: dict[str, tuple[str, Callable[[list[Path]], RawData]]] = {
    "movielens": ("u.data", movielens.read),
    "amazon": ("reviews.json", amazon.read),
    "citeulike": ("users.dat", citeulike.read),
    "lightgcn": ("train.txt", lightgcn.read),
    "table": ("t.txt", lambda paths: table.read(paths, **COLUMNS)),
    "table, two columns": (
        "t.csv",
        lambda paths: table.read(paths, **COLUMNS | {"rating": None, "timestamp": None}),
    ),
    "table, no header": (
        "t.tsv",
        lambda paths: table.read(
            paths,
            **COLUMNS | {"user": 0, "item": 1, "rating": None, "timestamp": None, "header": False},
        ),
    ),
}
HUGE = ["9" * 18, "9" * 19, "9" * 30, "-1", "1e309", "1e3", "NaN", "inf", "-0", "0x10", "1_0",
        "٣", "", " ", '"', '"a', 'a"b', "\x00", "\ufeff1", "é", "2026-01-02", "true",
        "null"]  # fmt: skip
CELLS = st.one_of(
    st.integers(-3, 20).map(str),
    st.sampled_from(HUGE),
    st.floats(allow_nan=True).map(str),
    st.text(alphabet=string.printable, max_size=4),
)
MARKS = st.sampled_from(["\t", ",", "::", " ", ";", "|", ":", "  "])
ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", ""])
HEADS = st.sampled_from(
    ["", "user{0}item{0}rating{0}timestamp{1}", "user{0}item{1}", "user{0}user{0}item{1}",
     '"user"{0}"item"{0}"rating"{0}"timestamp"{1}', "user:token{0}item:token{1}", "{0}{0}{0}{1}"]
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Rows of near-valid cells, now and then with one cell too few or too many."""
    if draw(st.booleans()):  # a right one
        mark = draw(st.sampled_from(["\t", ",", "::"]))
        head = draw(st.sampled_from(["", "user{0}item{0}rating{0}timestamp\n"])).format(mark)
        row = st.lists(st.integers(0, 9).map(str), min_size=4, max_size=4)
        lines = draw(st.lists(row, min_size=1, max_size=5))
        return (head + "".join(mark.join(line) + "\n" for line in lines)).encode()
    mark, end = draw(MARKS), draw(ENDS)
    width = draw(st.integers(1, 5))
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=6))
    if rows and draw(st.booleans()):
        rows[draw(st.integers(0, len(rows) - 1))].append(draw(CELLS))
    text = draw(HEADS).format(mark, end) + "".join(mark.join(row) + end for row in rows)
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return text.encode(encoding, "replace")


KEYS = ["reviewerID", "asin", "overall", "unixReviewTime", "x"]
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3)
    ),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=2)
    ),
    max_leaves=3,
)


@st.composite
def json_lines(draw: st.DrawFn) -> bytes:
    import json

    rows = draw(st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5), max_size=5))
    return "\n".join(json.dumps(row) for row in rows).encode()


@st.composite
def parquets(draw: st.DrawFn) -> bytes:
    kinds = [
        [1, 2, -3],
        ["a", None, "b"],
        [1.5, float("nan"), float("inf")],
        [b"\xff", b"", b"x"],
        pd.to_datetime(["2020", "1600", None], format="mixed").tolist(),
        [[1], [], [2]],
        [{"a": 1}] * 3,
        [True, False, None],
        pd.Categorical(["x", "y", "x"]),
        [None, None, None],
    ]
    names = draw(st.permutations(["user", "item", "rating", "timestamp"]))[
        : draw(st.integers(1, 4))
    ]
    frame = pd.DataFrame({name: draw(st.sampled_from(kinds)) for name in names})
    out = io.BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes cut short, with a byte changed, or a piece repeated; plain or in gzip."""
    data = bytearray(draw(whole))
    if draw(st.booleans()):
        data = bytearray(gzip.compress(bytes(data), mtime=0))
    for _ in range(draw(st.integers(0, 2))):
        if data:
            at = draw(st.integers(0, len(data) - 1))
            how = draw(st.sampled_from(["cut", "change", "repeat"]))
            if how == "cut":
                del data[at:]
            elif how == "change":
                data[at] = draw(st.integers(0, 255))
            else:
                data[at:at] = data[: at + 1]
    return bytes(data)


FILES = st.one_of(
    st.binary(max_size=60), tables(), json_lines(), damaged(tables()), damaged(json_lines()),
    damaged(parquets()),
)  # fmt: skip


def check_frame(raw: RawData) -> None:
    frame = raw.frame
    assert len(frame) > 0
    assert list(frame.columns[:2]) == ["user", "item"]
    assert not frame[["user", "item"]].isna().any().any()
    for name in ("user", "item"):
        first = frame[name].iloc[0]
        assert isinstance(first, str) or int(first) == first
    for name in set(frame.columns) & {"rating", "timestamp", "order"}:
        values = pd.to_numeric(frame[name])
        assert not values.isin([float("inf"), float("-inf")]).any()


@pytest.mark.parametrize("name", READERS)
@fuzzed
@given(data=FILES)
def test_a_reader_gives_a_frame_or_a_message(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes
) -> None:
    file, read = READERS[name]
    path = tmp_path_factory.getbasetemp() / file
    path.write_bytes(data)
    try:
        raw = read([path])
    except KdrecError:
        return
    check_frame(raw)


@fuzzed
@given(data=st.one_of(st.binary(max_size=40), st.text("0123459 \n-", max_size=60).map(str.encode)))
def test_lines_of_numbers_agree_with_a_loop_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "lines"
    path.write_bytes(data)
    try:
        values, counts = read_int_lines(path)
    except KdrecError:
        return
    naive = [[int(word) for word in line.split()] for line in data.decode().split("\n")]
    naive = naive[:-1] if data.endswith(b"\n") or not data else naive
    assert counts.tolist() == [len(line) for line in naive]
    assert values.tolist() == [number for line in naive for number in line]


NAMES = st.sampled_from(["in/x", "../x", "/x", "x", "x/../../y", "..\\x", "C:x", "x" * 300])


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", draw(st.sampled_from([0, 8, 12, 14]))) as file:
        for name in draw(st.lists(NAMES, max_size=3, unique=True)):
            file.writestr(name, draw(st.binary(max_size=30)) * draw(st.sampled_from([1, 50, 9999])))
    return out.getvalue()


@fuzzed
@given(data=st.one_of(st.binary(max_size=60), zips(), damaged(zips())))
def test_an_archive_gives_its_member_or_a_message(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("zip")
    (folder / "a.zip").write_bytes(data)
    target = folder / "out" / "x"
    whole(folder / "a.zip", "a.zip")
    try:
        unpack(folder / "a.zip", "in/x", target)
    except KdrecError:
        assert not target.exists()
    else:
        assert target.is_file()
    left = {path.name for path in folder.rglob("*")} - {"a.zip", "out", "x"}
    assert left == set(), "nothing else is written"


@fuzzed
@given(
    data=st.one_of(st.binary(max_size=60), damaged(tables())),
    name=st.sampled_from(["x.gz", "x.zip"]),
)
def test_whether_a_file_is_whole_is_always_answered(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "whole"
    path.write_bytes(data)
    assert whole(path, name) in (True, False)


GOOD = ["method=unkd", "K=4", "seed=0,1", "-m", "teacher=[lightgcn,bprmf]", "student=bprmf",
        "fit=fast", "fit.epochs=3", "lr=0.1", "method.distiller.mu=10", "+new=1", "~debias",
        "dataset.path=x", "evaluation.cutoffs=[5,10]", "metric=[recall,ndcg]", "debias=pd",
        "experiment=table1", "seed=range(3)", "lr='0.1'", "--config-name=train", "-c", "job",
        "hydra.sweeper.params={}", "hydra.job.name=x", "method@a=unkd", "${oc.env:HOME}=1",
        "lr=${nothing}", "lr=${oc.env:NOT_THERE}", "dataset=table", "tuned=none", "role=teacher",
        "tune.space.lr=choice(1,2)", "hydra.mode=MULTIRUN", "hydra=null", "hydra.run=1",
        "method.distiller=null", "fit={epochs: 2}", "lr=interval(0,1)", "seed=glob(*)",
        "metric=null", "dataset.files=[1]", "method=null", "experiment=null"]  # fmt: skip
WORD = st.one_of(
    st.sampled_from(GOOD),
    st.text(string.printable, max_size=12),
    st.text(max_size=6),
    st.builds(lambda a, b: f"{a}={b}", st.sampled_from([one.partition("=")[0] for one in GOOD]),
              st.one_of(CELLS, st.sampled_from([one.partition("=")[2] for one in GOOD]))),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    word = draw(WORD)
    at = draw(st.integers(0, len(word)))
    return word[:at] + draw(st.text("=,[]{}()$+~@'\"\\ .:-0aé\x00", max_size=2)) + word[at:]


@fuzzed
@given(words=st.lists(st.one_of(WORD, mutated()), max_size=5), tune=st.booleans())
def test_a_line_is_taken_apart_or_refused(words: list[str], tune: bool) -> None:
    try:
        line = line_of("tune" if tune else "distill", words)
    except UsageError:
        return
    assert isinstance(line, Line)
    assert len(line.overrides) <= len(words)


@pytest.fixture
def checker():
    with checking("distill", Line.of(["-m"])) as found:
        yield found


@settings(fuzzed, max_examples=max(N // 4, 25))
@given(words=st.lists(st.one_of(WORD, mutated()), min_size=1, max_size=3))
def test_overrides_are_checked_or_refused(checker, words: list[str]) -> None:
    confdir.register_resolvers()
    try:
        line = Line.of(words)
    except UsageError:
        return
    with contextlib.suppress(UsageError):
        checker.check(line.overrides)


@settings(fuzzed, max_examples=max(N // 20, 4))
@given(words=st.lists(st.one_of(WORD, mutated()), min_size=1, max_size=3))
def test_the_program_says_what_is_wrong_with_a_line(here_module: Path, words: list[str]) -> None:
    if any(word.startswith(("-", "--")) for word in words):
        words = [word for word in words if not word.startswith("-")]
    from typer.testing import CliRunner

    from kdrec.cli.app import app

    result = CliRunner().invoke(app, ["distill", "--dry-run", *words], prog_name="kdrec")
    assert result.exit_code in (0, 2), (words, result.stderr)
    assert "Traceback" not in result.stderr
    assert result.exit_code == 0 or result.stderr.startswith(("error:", "Usage:"))


@pytest.fixture(scope="module")
def here_module(tmp_path_factory: pytest.TempPathFactory):
    from tests.clitoys import keep_root_logger

    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("here"))
    keeping = keep_root_logger()
    next(keeping)
    yield Path.cwd()
    os.chdir(before)
    next(keeping, None)


def test_the_plain_line_passes(here: Path) -> None:
    kd("distill", "--dry-run", "K=2")
