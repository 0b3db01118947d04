"""Text with one line of whole numbers a user, parsed without a loop over lines."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdrec.data.interactions import IntArray
from kdrec.data.raw import UNREADABLE, open_binary
from kdrec.errors import KdrecError

MAX_DIGITS = 18  # all numbers of so many fit into 64 bits


def read_int_lines(path: Path) -> tuple[IntArray, IntArray]:
    """All numbers of the file, and how many each line has.

    Args:
        path: A plain or gzip file of non-negative whole numbers, spaces or tabs and line ends.

    Returns:
        The numbers in file order [n], and the number of them on each line [n_lines]. An empty
        last line does not count, an empty line before it does.

    Raises:
        KdrecError: If anything else is in the file; the message names the line.
    """
    try:
        with open_binary(path) as file:
            data = file.read().removeprefix(codecs.BOM_UTF8)
    except UNREADABLE as error:
        raise KdrecError(f"{path} cannot be read: {error}.", "Download it again.") from error
    raw: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
    newline = raw == ord("\n")
    digit = (raw >= ord("0")) & (raw <= ord("9"))
    blank = newline | (raw == ord(" ")) | (raw == ord("\t")) | (raw == ord("\r"))
    if not bool(np.all(digit | blank)):
        at = int(np.argmin(digit | blank))
        line = int(newline[:at].sum()) + 1
        raise KdrecError(
            f"{path}, line {line}: expected whole numbers and spaces, "
            f"found {data[at : at + 20]!r}.",
        )
    starts = digit.copy()
    starts[1:] &= ~digit[:-1]
    last = digit.copy()
    last[:-1] &= ~digit[1:]
    lengths = np.flatnonzero(last) - np.flatnonzero(starts) + 1
    if lengths.max(initial=0) > MAX_DIGITS:  # numpy's parser would take the largest it has for it
        at = int(np.flatnonzero(starts)[lengths.argmax()])
        line = int(newline[:at].sum()) + 1
        raise KdrecError(
            f"{path}, line {line}: {data[at : at + 40].split()[0].decode()} is too large "
            "to be an id.",
            f"Ids have at most {MAX_DIGITS} digits; dataset=table takes any text for an id.",
        )
    ends = np.flatnonzero(newline)
    if len(raw) and not newline[-1]:
        ends = np.append(ends, len(raw) - 1)
    counts = np.diff(np.cumsum(starts, dtype=np.int64)[ends], prepend=0)
    # numpy's text parser is the fast one, and takes any whitespace for the blank between numbers
    values = np.fromstring(data.decode("ascii"), dtype=np.int64, sep=" ")
    if len(values) != counts.sum():
        raise KdrecError(f"{path} holds a number too large to be an id.")
    return values, counts


def split_lead(
    path: Path, values: IntArray, counts: IntArray, what: str
) -> tuple[IntArray, IntArray, IntArray]:
    """Takes the first number of each line apart from the rest.

    Args:
        path: For the message.
        values: All numbers. Shape [n].
        counts: How many each line has. Shape [n_lines].
        what: What the first number is, for the message.

    Returns:
        The first numbers [n_lines], how many follow each [n_lines], and those that follow
        [n - n_lines].

    Raises:
        KdrecError: If a line is empty.
    """
    if len(counts) and counts.min() == 0:
        line = int(counts.argmin()) + 1
        raise KdrecError(f"{path}, line {line} is empty; it must begin with {what}.")
    first = np.cumsum(counts) - counts
    rest = np.ones(len(values), dtype=np.bool_)
    rest[first] = False
    return values[first], counts - 1, values[rest]


def positions(counts: IntArray) -> IntArray:
    """0, 1, 2, ... within each line, given how many each line has. Shape [sum of counts]."""
    return np.arange(counts.sum(), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
