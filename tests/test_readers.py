"""Every form of raw file, from real bytes or from a few lines that look like them."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from kdrec.data import amazon, citeulike, lightgcn, movielens, table
from kdrec.data.lines import positions, read_int_lines
from kdrec.errors import KdrecError, UsageError

COLUMNS = {
    "user": "user",
    "item": "item",
    "rating": None,
    "timestamp": None,
    "split": None,
    "separator": None,
    "header": True,
}


def write(folder, name, text):
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def rows(raw):
    return raw.frame.to_numpy().tolist()


MOVIES = [[1, 10, 5.0, 978300760], [1, 11, 3.0, 978302109], [2, 10, 4.5, 978301968]]


@pytest.mark.parametrize(
    ("name", "first", "separator"),
    [
        ("u.data", "", "\t"),
        ("ratings.dat", "", "::"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n", ","),
        ("ratings_all.tsv.gz", "user\tmovie\trating\ttimestamp\n", "\t"),
    ],
)
def test_movielens_tells_its_forms_apart(tmp_path, name, first, separator):
    body = "".join(separator.join(str(cell) for cell in row) + "\n" for row in MOVIES)
    raw = movielens.read([write(tmp_path, name, first + body)])
    assert list(raw.frame.columns) == ["user", "item", "rating", "timestamp"]
    assert rows(raw) == MOVIES
    assert raw.frame["timestamp"].dtype == np.int64


def test_movielens_takes_an_empty_rating_for_missing(tmp_path):
    text = "user\tmovie\trating\ttimestamp\n1\t10\t5\t100\n3000\t2990\t\t\n"
    frame = movielens.read([write(tmp_path, "r.tsv", text)]).frame
    assert frame["rating"].isna().tolist() == [False, True]
    assert frame["timestamp"].isna().tolist() == [False, True]
    assert frame["user"].tolist() == [1, 3000]


def test_movielens_refuses_another_of_its_files(tmp_path):
    path = write(tmp_path, "movies.dat", "1::Toy Story (1995)::Animation\n")
    with pytest.raises(KdrecError, match=r"3 columns.*Toy Story"):
        movielens.read([path])


@pytest.mark.parametrize(
    ("text", "line"), [("1\t2\t3\t4\n1\t2\t3\n", 2), ("1\t2\t3\t4\n1\tx\t3\t4\n", 2)]
)
def test_a_broken_line_is_named(tmp_path, text, line):
    with pytest.raises(KdrecError, match=rf"u\.data.*(?s:.)*[Rr]ow #{line}"):
        movielens.read([write(tmp_path, "u.data", text)])


REVIEWS = (
    '{"reviewerID": "A1", "asin": "B1", "overall": 5.0, "reviewText": "good, {so}", '
    '"helpful": [1, 2], "unixReviewTime": 1365811200}\n'
    '{"asin": "B2", "overall": 2.0, "reviewerID": "A1", "unixReviewTime": 1365811300}\n'
)


@pytest.mark.parametrize("name", ["reviews_X_5.json.gz", "reviews_X_5.json"])
def test_amazon_reads_json_lines(tmp_path, name):
    raw = amazon.read([write(tmp_path, name, REVIEWS)])
    assert rows(raw) == [["A1", "B1", 5.0, 1365811200], ["A1", "B2", 2.0, 1365811300]]


def test_amazon_reads_the_csv_of_ratings(tmp_path):
    raw = amazon.read([write(tmp_path, "ratings_X.csv", "A1,B1,5.0,1365811200\nNA,B2,1.0,3\n")])
    assert rows(raw) == [["A1", "B1", 5.0, 1365811200], ["NA", "B2", 1.0, 3]]


def test_amazon_reads_sequences_with_their_order_but_no_time(tmp_path):
    raw = amazon.read([write(tmp_path, "X.txt.gz", "1 7 8 7\n2 9\n")])
    assert list(raw.frame.columns) == ["user", "item", "order"]
    assert rows(raw) == [[1, 7, 0], [1, 8, 1], [1, 7, 2], [2, 9, 0]]


@pytest.mark.parametrize(
    ("text", "says"),
    [("hello world\n", "none of the forms"), (REVIEWS[:-30] + "\n", "not whole JSON")],
)
def test_amazon_refuses_what_it_does_not_know(tmp_path, text, says):
    with pytest.raises(KdrecError, match=says):
        amazon.read([write(tmp_path, "x.json", text)])


def test_citeulike_counts_its_lines(tmp_path):
    raw = citeulike.read([write(tmp_path, "users.dat", "2 5 9\n0\n1 5\n")])
    assert rows(raw) == [[0, 5], [0, 9], [2, 5]]
    with pytest.raises(KdrecError, match="line 2 says 3 items and has 1"):
        citeulike.read([write(tmp_path, "users.dat", "2 5 9\n3 4\n")])


def test_lightgcn_carries_its_split_and_allows_users_without_items(tmp_path):
    paths = [
        write(tmp_path, "test.txt", "0 3\n1 \n"),
        write(tmp_path, "train.txt.gz", "0 1 2\n1 2\n"),
    ]
    raw = lightgcn.read(paths)
    assert rows(raw) == [[0, 1, "train"], [0, 2, "train"], [1, 2, "train"], [0, 3, "test"]]


def test_lightgcn_needs_its_training_part(tmp_path):
    with pytest.raises(KdrecError, match=r"train\.txt and test\.txt"):
        lightgcn.read([write(tmp_path, "test.txt", "0 3\n")])


def test_int_lines_agree_with_a_loop(tmp_path):
    rng = np.random.default_rng(3)
    lines = [
        rng.choice(["", " "])
        + rng.choice([" ", "  ", "\t"]).join(str(n) for n in rng.integers(0, 10**9, size))
        + rng.choice(["", " ", "\r"])
        for size in rng.integers(0, 6, 200)
    ]
    lines.append("7")
    values, counts = read_int_lines(write(tmp_path, "x", "\n".join(lines)))
    naive = [[int(word) for word in line.split()] for line in lines]
    assert counts.tolist() == [len(line) for line in naive]
    assert values.tolist() == [number for line in naive for number in line]
    assert positions(counts).tolist() == [at for line in naive for at in range(len(line))]


@pytest.mark.parametrize("text", ["1 2\n3 x\n", "1 2\n-3 4\n", "1 2\n3 4.5\n"])
def test_int_lines_name_the_line_that_is_wrong(tmp_path, text):
    with pytest.raises(KdrecError, match="line 2: expected whole numbers"):
        read_int_lines(write(tmp_path, "x", text))


TABLE = [["007", "a"], ["7", "b"], ["NA", "a"]]


@pytest.mark.parametrize(
    ("name", "separator"),
    [
        ("t.csv", ","),
        ("t.tsv", "\t"),
        ("t.csv.gz", ","),
        ("t.txt", ";"),
        ("t.txt", "|"),
        ("t.txt", " "),
        ("t.dat", "::"),
    ],
)
def test_a_table_is_read_whatever_separates_it(tmp_path, name, separator):
    body = "".join(separator.join(row) + "\n" for row in [["user", "item"], *TABLE])
    raw = table.read([write(tmp_path, name, body)], **COLUMNS)
    assert rows(raw) == TABLE, "ids are kept as they are written"


def test_a_table_named_gz_need_not_be_and_the_other_way_round(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(gzip.compress(b"user,item\n1,2\n"))
    assert rows(table.read([path], **COLUMNS)) == [["1", "2"]]
    path = tmp_path / "u.csv.gz"
    path.write_bytes(b"user,item\n1,2\n")
    assert rows(table.read([path], **COLUMNS)) == [["1", "2"]]


def test_recbole_names_lose_their_types(tmp_path):
    text = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t4\t100.0\n"
    options = COLUMNS | {
        "user": "user_id",
        "item": "item_id",
        "rating": "rating",
        "timestamp": "timestamp",
    }
    raw = table.read([write(tmp_path, "x.inter", text)], **options)
    assert rows(raw) == [["1", "2", 4.0, 100]]


def test_a_table_without_a_header_has_numbered_columns(tmp_path):
    options = COLUMNS | {"user": 1, "item": 0, "header": False}
    assert rows(table.read([write(tmp_path, "x.csv", "a,1\nb,2\n")], **options)) == [
        ["1", "a"],
        ["2", "b"],
    ]


def test_dates_become_seconds(tmp_path):
    text = "user,item,when\n1,2,1970-01-02\n1,3,1970-01-03\n"
    raw = table.read([write(tmp_path, "x.csv", text)], **COLUMNS | {"timestamp": "when"})
    assert raw.frame["timestamp"].tolist() == [86400, 2 * 86400]


def test_parquet_is_told_by_its_bytes(tmp_path):
    frame = pd.DataFrame({"item": [5, 6], "user": ["x", "y"], "part": ["train", "val"]})
    frame.to_parquet(tmp_path / "data.bin")
    raw = table.read([tmp_path / "data.bin"], **COLUMNS | {"split": "part"})
    assert rows(raw) == [["x", 5, "train"], ["y", 6, "valid"]]


@pytest.mark.parametrize(
    ("text", "change", "says"),
    [
        ("users,item\n1,2\n", {}, r"no column 'user'.*users, item(?s:.)*reader.user=users"),
        ("user;item\n1;2\n", {"separator": ","}, r"no column 'user'"),
        ("user,item\n1,\n", {}, "1 rows have no item id; the first is row 1"),
        ("user,item\n1,2\n1,2,3\n", {}, "Row #3"),
        ("user,item,r\n1,2,good\n", {"rating": "r"}, "good"),
        ("user,item,t\n1,2,soon\n", {"timestamp": "t"}, "neither numbers nor ISO dates"),
        ("user,item,s\n1,2,dev\n", {"split": "s"}, "found dev"),
        ("user,item\n1,2\n", {"rating": "user"}, "named for two things"),
        ("user,item\n1,2\n", {"separator": "ab"}, "one character"),
        ("user,item\n", {}, "no interactions"),
        ("", {}, "empty"),
    ],
)
def test_a_table_says_what_is_wrong_with_it(tmp_path, text, change, says):
    with pytest.raises(KdrecError, match=says):
        table.read([write(tmp_path, "x.csv", text)], **COLUMNS | change)


def test_a_table_needs_a_file():
    with pytest.raises(UsageError, match=r"needs a file(?s:.)*dataset\.path"):
        table.read([], **COLUMNS)


@pytest.mark.parametrize(
    ("reader", "path", "n_rows"),
    [
        (movielens, "ml-100k/u.data", 100_000),
        (movielens, "ml-1m/ratings_all.tsv.gz", 1_000_209),
        (movielens, "ml-latest-small/ratings.csv.gz", 100_004),
        (amazon, "amazon-apps/Apps_for_Android.txt.gz", 752_937),
        (amazon, "amazon-gift-cards/Gift_Cards_5.json.gz", 2_972),
        (citeulike, "citeulike-t/users.dat", 134_860),
    ],
)
def test_real_files_are_read_whole(shared, reader, path, n_rows):
    assert len(reader.read([shared / path]).frame) == n_rows


def test_a_real_table_of_somebody_else(shared):
    options = COLUMNS | {"user": "userId", "item": "itemId", "rating": "rate", "timestamp": "date"}
    frame = table.read([shared / "xmarket-electronics" / "de_5core.txt.gz"], **options).frame
    assert frame["rating"].between(1, 5).all()
    assert frame["timestamp"].dtype == np.int64
    assert pd.to_datetime(frame["timestamp"], unit="s").dt.year.between(1999, 2022).all()


def test_a_column_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("user,item,item\na,b,c\n", "utf-8")
    options = {"rating": None, "timestamp": None, "split": None, "separator": None, "header": True}
    with pytest.raises(KdrecError, match="more than one column 'item'"):
        table.read([path], user="user", item="item", **options)
