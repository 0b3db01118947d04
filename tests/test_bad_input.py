"""Data that nobody should have to expect: one message that says what, where and what to do."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import numpy as np
import pytest

from kdrec.data import amazon, citeulike, lightgcn, movielens, table
from kdrec.data.groups import popularity_groups
from kdrec.data.raw import first_line
from kdrec.errors import KdrecError
from tests.program import kd

PLAIN = {"user": "user", "item": "item", "rating": None, "timestamp": None, "split": None,
         "separator": None, "header": True}  # fmt: skip
RATED = PLAIN | {"rating": "rating"}
TIMED = PLAIN | {"timestamp": "timestamp"}
ROWS = b"user,item,rating,timestamp\na,b,5,1\n"
REVIEW = b'{"reviewerID": "A", "asin": "B", "overall": 5.0, "unixReviewTime": 1}\n'


def tabled(options: dict[str, object]):
    return lambda paths: table.read(paths, **options)


def packed(data: bytes) -> bytes:
    """Gzipped without the time, so that tests have the same names in every process."""
    return gzip.compress(data, mtime=0)


BAD = [
    # (what, reader, file, content, what the message has)
    ("empty", movielens.read, "u.data", b"", "is empty"),
    ("empty", citeulike.read, "users.dat", b"", "no interactions"),
    ("empty", lightgcn.read, "train.txt", b"", "no interactions"),
    ("empty", amazon.read, "x.json", b"", "is empty"),
    ("header alone", tabled(PLAIN), "t.csv", b"user,item\n", "no interactions"),
    ("blank first line", tabled(PLAIN), "t.csv", b"\n" + ROWS, "begins with an empty line"),
    ("too few cells", movielens.read, "u.data", b"1\t2\t3\t4\n1\t2\t3\n", "Row #2"),
    ("too many cells", tabled(PLAIN), "t.csv", ROWS + b"a,b,c,d,e\n", "Row #3"),
    ("negative id", movielens.read, "u.data", b"1\t2\t3\t4\n1\t-7\t3\t4\n", "id -7.*row 2"),
    ("negative id", citeulike.read, "users.dat", b"1 5\n1 -5\n", "line 2"),
    ("huge id", movielens.read, "u.data", b"1\t2\t3\t4\n1\t%s\t3\t4\n" % (b"9" * 30), "9999"),
    ("huge id", citeulike.read, "users.dat", b"1 " + b"9" * 30 + b"\n", "line 1.*too large"),
    ("id that is no number", movielens.read, "u.data", b"1\t2\t3\t4\n1\tx\t3\t4\n", "Row #2"),
    ("id that is no number", lightgcn.read, "train.txt", b"0 1\n0 x\n", "line 2"),
    ("a count that is wrong", citeulike.read, "users.dat", b"2 1\n", "says 2 items and has 1"),
    ("columns twice", tabled(PLAIN), "t.csv", b"user,item,user\na,b,c\n", "more than one column"),
    ("no id", tabled(PLAIN), "t.csv", b"user,item\na,b\n,b\n", "no user id.*row 2"),
    ("infinite rating", tabled(RATED), "t.csv", ROWS + b"a,c,inf,1\n", "rating of row 2.*inf"),
    ("infinite rating", movielens.read, "u.data", b"1\t2\t1e999\t4\n", "rating of row 1"),
    ("infinite time", tabled(TIMED), "t.csv", ROWS + b"a,c,1,-inf\n", "timestamp of row 2"),
    ("text for a rating", tabled(RATED), "t.csv", ROWS + b"a,c,good,1\n", "good"),
    ("text for a time", tabled(TIMED), "t.csv", ROWS + b"a,c,1,soon\n", "neither numbers nor"),
    ("UTF-16", tabled(PLAIN), "t.csv", ROWS.decode().encode("utf-16"), "line 1.*iconv -f UTF-16"),
    ("UTF-16 LE", tabled(PLAIN), "t.csv", ROWS.decode().encode("utf-16-le"), "iconv -f UTF-16"),
    ("UTF-16", movielens.read, "u.data", "1\t2\t3\t4\n".encode("utf-16"), "iconv -f UTF-16"),
    ("latin-1", tabled(PLAIN), "t.csv", ROWS + b"\xe9,b,5,1\n", "line 3.*0xe9.*iconv"),
    ("latin-1 header", tabled(PLAIN), "t.csv", b"\xe9,item\na,b\n", "line 1.*0xe9"),
    ("NUL", tabled(PLAIN), "t.csv", ROWS + b"a\0,b,5,1\n", "line 3.*NUL"),
    ("NUL", citeulike.read, "users.dat", b"1 5\n\0\n", "line 2"),
    ("cut short", tabled(PLAIN), "t.csv", packed(ROWS * 99)[:-20], "cannot be read|whole"),
    ("cut short", citeulike.read, "u", packed(b"1 5\n" * 99)[:-9], "cannot be read"),
    ("cut short", amazon.read, "x.json", REVIEW[:-20], "not whole JSON"),
    ("damaged gzip", lightgcn.read, "train.txt", b"\x1f\x8b\x08\0\0\0\0\0\0\0\2\1", "cannot be"),
    ("gzip bomb", citeulike.read, "u", packed(b"1 5\n" * 2_000_000), "100 times its size"),
    ("gzip bomb", tabled(PLAIN), "t.csv", packed(ROWS + b"a,b,5,1\n" * 900_000), "100 "),
    ("another format", amazon.read, "x.json", b"%PDF-1.7 hello\n", "none of the forms"),
    ("parquet by name", tabled(PLAIN), "t.parquet", b"PAR1nonsense", "not a readable parquet"),
    ("a list", amazon.read, "x.json", b'{"reviewerID": [1]}\n', "not whole JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "read", "file", "content", "says"), BAD)
def test_bad_data_is_refused_by_name_and_place(
    tmp_path: Path, what: str, read, file: str, content: bytes, says: str
) -> None:
    path = tmp_path / file
    path.write_bytes(content)
    with pytest.raises(KdrecError, match=rf"(?s){says}") as caught:
        read([path])
    nameless = {"no interactions", "rating of", "timestamp of", "no user id"}
    assert file in str(caught.value) or any(one in str(caught.value) for one in nameless)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("read", "file", "content"),
    [
        (tabled(PLAIN), "t.csv", ROWS),
        (movielens.read, "u.data", b"1\t2\t3\t4\n"),
        (citeulike.read, "users.dat", b"1 5\n"),
        (lightgcn.read, "train.txt", b"0 1\n"),
    ],
)
def test_the_byte_order_mark_of_utf_8_is_no_part_of_the_data(
    tmp_path: Path, read, file: str, content: bytes, mark: bytes
) -> None:
    (tmp_path / file).write_bytes(content)
    plain = read([tmp_path / file]).frame
    (tmp_path / file).write_bytes(mark + content)
    assert read([tmp_path / file]).frame.equals(plain)


def test_a_line_without_end_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a" * (1 << 20))
    assert len(first_line(tmp_path / "x")) == 1 << 16


def test_more_groups_than_items_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        groups = popularity_groups(np.array([5, 3, 0]), 1000)
    assert groups.tolist() == [0, 1, -1]
    assert "Only 2 of 1000 groups" in caplog.text


SMALL = ["dataset.reader.n_users=40", "dataset.reader.n_items=30", "dataset.reader.min_per_user=4",
         "teacher_fit.epochs=1", "fit.epochs=1", "teacher_dim=4", "student_dim=2"]  # fmt: skip


def test_more_than_the_catalogue_has_is_said_and_no_number_is_wrong(here: Path) -> None:
    shown = kd("distill", *SMALL, "K=500", "evaluation.cutoffs=[5,100000]")
    assert "of 500 groups" in shown.stderr
    assert "100000 are longer than the catalogue" in shown.stderr


def test_users_without_test_items_and_one_user_are_no_trouble_or_are_said(here: Path) -> None:
    (here / "mine.csv").write_text("user,item\na,b\n", "utf-8")
    shown = kd("distill", "dataset=table", "dataset.path=mine.csv", *SMALL[3:], status=1)
    assert "has no validation pairs" in shown.stderr
    assert "dataset.filters.min_user=" in shown.stderr
    lines = [f"u{u},i{i}" for u in range(20) for i in range(1 + u % 12)]
    (here / "mine.csv").write_text("\n".join(["user,item", *lines]), "utf-8")
    kd("distill", "dataset=table", "dataset.path=mine.csv", *SMALL[3:])
