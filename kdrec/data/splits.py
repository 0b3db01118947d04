"""Protocols: which pair is for training, which for validation, which for testing.

A splitter is `f(frame, *, <options>, rng) -> labels`, one label a row: 0 train, 1 valid, 2 test,
-1 left out. `frame` has unique pairs, with integer columns `user` and `item` and, where the source
has them, `timestamp`, `order` and `split`.

Shares of one user's n pairs are rounded to the nearest whole number, halves up, unless said
otherwise; whatever the shares, a user with a pair keeps at least one for training, and a test pair
goes before a validation pair. With test = valid = 0.1 (`paper`): below 5 pairs all are for
training; 5 to 14 give one test pair, and from 6 on one validation pair.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from kdrec.data.interactions import IntArray
from kdrec.errors import UsageError

Labels = NDArray[np.int8]

LEFT_OUT, TRAIN, VALID, TEST = -1, 0, 1, 2
NAMES = {"train": TRAIN, "valid": VALID, "test": TEST}
EPSILON = 1e-9  # 0.2 * 35 must not be a hair above 7

log = logging.getLogger(__name__)


def rank_within(users: IntArray, *keys: NDArray[np.generic]) -> tuple[IntArray, IntArray]:
    """Place of each row among its user's rows, ordered by `keys` (the first matters most).

    Returns:
        The place, from 0 [n], and the number of rows of the row's user [n].
    """
    order = np.lexsort((*reversed(keys), users))
    counts = np.bincount(users) if len(users) else np.zeros(0, np.int64)
    starts = np.cumsum(counts) - counts
    place = np.empty(len(users), dtype=np.int64)
    place[order] = np.arange(len(users)) - starts[users[order]]
    return place, counts[users]


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise UsageError(
            f"The share {name} must be at least 0 and below 1, got {value}.",
            f"Set protocol.splitter.{name}, for example to 0.1.",
        )
    return value


def _nearest(share: float, counts: IntArray) -> IntArray:
    return np.asarray(np.floor(share * counts + 0.5 + EPSILON), dtype=np.int64)


def _timed(frame: DataFrame, column: str, protocol: str) -> NDArray[np.generic]:
    times = frame[column].to_numpy()
    missing = int(np.isnan(times.astype(np.float64)).sum())
    if missing:
        raise UsageError(
            f"protocol={protocol} needs the time of every pair; {missing} of {len(times)} have "
            "none.",
            "Use protocol=paper, or a threshold (dataset.filters.min_rating) that drops them.",
        )
    return times


def ratio(frame: DataFrame, *, test: float, valid: float, rng: np.random.Generator) -> Labels:
    """Per user at random: a share `test` of the pairs, then a share `valid` of the rest.

    Args:
        frame: Unique pairs. n rows.
        test: Share for testing.
        valid: Share of what is left for validation.
        rng: Where chance comes from.

    Returns:
        A label a row. Shape [n].

    Raises:
        UsageError: If a share is outside [0, 1).
    """
    users = frame["user"].to_numpy()
    place, count = rank_within(users, rng.random(len(users)))
    n_test = np.minimum(_nearest(_share("test", test), count), count - 1)
    n_valid = np.minimum(_nearest(_share("valid", valid), count - n_test), count - n_test - 1)
    return np.where(place < n_test, TEST, np.where(place < n_test + n_valid, VALID, TRAIN)).astype(
        np.int8
    )


def official(
    frame: DataFrame, *, holdout: float, valid_users: float, rng: np.random.Generator
) -> Labels:
    """Per user at random a share is held out, rounded up; the *users* are parted at random.

    A validation user's held-out pairs are for validation, a test user's for testing: no user has
    both. This is what the published code of UnKD does (and not what its text says).

    Args:
        frame: Unique pairs. n rows.
        holdout: Share of a user's pairs that is held out, rounded up.
        valid_users: Share of the users that are validation users, rounded to the nearest.
        rng: Where chance comes from.

    Returns:
        A label a row. Shape [n].

    Raises:
        UsageError: If a share is outside [0, 1).
    """
    users = frame["user"].to_numpy()
    place, count = rank_within(users, rng.random(len(users)))
    held = np.ceil(_share("holdout", holdout) * count - EPSILON).astype(np.int64)
    held = np.minimum(held, count - 1)
    present = np.unique(users)
    n_valid = int(_nearest(_share("valid_users", valid_users), np.asarray(len(present))))
    chosen = rng.permutation(present)[:n_valid]
    is_valid_user = np.isin(users, chosen)
    return np.where(place < held, np.where(is_valid_user, VALID, TEST), TRAIN).astype(np.int8)


def leave_one_out(frame: DataFrame, *, rng: np.random.Generator) -> Labels:
    """Per user by time: the last pair is for testing, the one before for validation.

    With two pairs there is no validation pair, with one it is for training. Pairs of the same
    user at the same time are ordered at random, so that the order of the file decides nothing.

    Args:
        frame: Unique pairs with `timestamp` or `order`. n rows.
        rng: Breaks ties of time.

    Returns:
        A label a row. Shape [n].

    Raises:
        UsageError: If there is no time, or some pairs have none.
    """
    column = next((name for name in ("timestamp", "order") if name in frame), None)
    if column is None:
        raise UsageError(
            "protocol=leave-one-out needs times, and this data set has none.",
            "Use protocol=paper, or name the column: dataset.reader.timestamp=COLUMN.",
        )
    users = frame["user"].to_numpy()
    times = _timed(frame, column, "leave-one-out")
    place, count = rank_within(users, times, rng.random(len(users)))
    last = count - 1 - place
    return np.where(
        (last == 0) & (count > 1), TEST, np.where((last == 1) & (count > 2), VALID, TRAIN)
    ).astype(np.int8)


def temporal(frame: DataFrame, *, test: float, valid: float, rng: np.random.Generator) -> Labels:
    """One cut in time for all: the latest share is for testing, the latest of the rest to validate.

    Pairs of the same second stay together, in the later part, so a part may be a little larger
    than its share. Validation and test pairs of users who have nothing before the cut are left
    out: nothing has been learnt about those users.

    Args:
        frame: Unique pairs with `timestamp`. n rows.
        test: Share of all pairs for testing.
        valid: Share of what is left for validation.
        rng: Not used: time leaves nothing to chance.

    Returns:
        A label a row. Shape [n].

    Raises:
        UsageError: If there is no time that users share, some pairs have none, or nothing is left
            for training.
    """
    del rng
    if "timestamp" not in frame:
        known = "only the order within each user" if "order" in frame else "no times"
        raise UsageError(
            f"protocol=temporal needs the time of every pair; this data set has {known}.",
            f"Use protocol={'leave-one-out' if 'order' in frame else 'paper'}.",
        )
    times = _timed(frame, "timestamp", "temporal")
    labels = np.zeros(len(times), dtype=np.int8)
    rest = np.sort(times)
    for share, label in ((_share("test", test), TEST), (_share("valid", valid), VALID)):
        n_part = int(_nearest(share, np.asarray(len(rest))))
        if n_part:
            cut = rest[len(rest) - n_part]
            labels[(times >= cut) & (labels == TRAIN)] = label
            rest = rest[rest < cut]
    if not len(rest):
        raise UsageError(
            f"With test={test} and valid={valid} the time cut leaves nothing for training: "
            f"{len(times)} pairs have {len(np.unique(times))} different times.",
            "Use protocol=paper or smaller shares.",
        )
    users = frame["user"].to_numpy()
    trained = np.zeros(int(users.max()) + 1, dtype=np.bool_)
    trained[users[labels == TRAIN]] = True
    cold = (labels != TRAIN) & ~trained[users]
    if cold.any():
        log.info(
            "protocol=temporal leaves out %d pairs of %d users who have none before the cut.",
            int(cold.sum()),
            len(np.unique(users[cold])),
        )
    labels[cold] = LEFT_OUT
    return labels


def given(frame: DataFrame, *, valid: float, rng: np.random.Generator) -> Labels:
    """The split that came with the data, in the column `split`.

    Where it has no validation part, a share of each user's training pairs is taken at random.

    Args:
        frame: Unique pairs with `split` ("train", "valid", "test"). n rows.
        valid: Share of a user's training pairs that goes to validation where the split has none.
        rng: Where chance comes from.

    Returns:
        A label a row. Shape [n].

    Raises:
        UsageError: If the data set has no split.
    """
    if "split" not in frame:
        raise UsageError(
            "protocol=given needs a data set with a split of its own, and this one has none.",
            "Use protocol=paper, or name the column: dataset.reader.split=COLUMN.",
        )
    labels = frame["split"].map(NAMES).to_numpy().astype(np.int8)
    if not (labels == VALID).any():
        train = np.flatnonzero(labels == TRAIN)
        inner = ratio(frame.iloc[train], test=0.0, valid=_share("valid", valid), rng=rng)
        labels[train[inner == VALID]] = VALID
    return labels
