"""From raw events to a split: threshold, duplicates, minimum counts, indices, protocol.

In this order:

1. *Threshold*: rows with a rating below `min_rating` go, and rows without a rating, since nothing
   says that they reach it. With `min_rating=None` every row is a positive, rated or not.
2. *Duplicates*: of several rows of one user and item the earliest stays (rows without a time
   count as latest; of equals the first in the file stays).
3. *Minimum counts*: users with fewer than `min_user` and items with fewer than `min_item` pairs
   go. Once: both are counted on the same pairs, so afterwards some may have fewer. With `core`,
   repeated until none has.
4. *Protocol*: every pair gets its part.
5. *Indices*: users and items are numbered by first appearance in the file, and the original ids
   kept. The same file gives the same indices; ties in popularity keep first-seen order.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas import DataFrame

from kdrec.data.interactions import IntArray, Interactions, Split
from kdrec.data.raw import RawData
from kdrec.data.splits import LEFT_OUT, TEST, TRAIN, VALID
from kdrec.data.stats import describe
from kdrec.errors import KdrecError, UsageError
from kdrec.seeding import stream

log = logging.getLogger(__name__)

BoolArray = NDArray[np.bool_]


class Splitter(Protocol):
    """Says for each row of a frame of unique pairs which part it belongs to."""

    def __call__(self, frame: DataFrame, *, rng: np.random.Generator) -> NDArray[np.int8]:
        """Labels 0 train, 1 valid, 2 test, -1 left out. Shape [rows]."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A data set ready for use.

    Args:
        split: The three parts, and the unbiased test set where there is one.
        users: Column `id`: the original id of each user index. n_users rows.
        items: Column `id`: the original id of each item index. n_items rows.
        stats: The statistics table, see `kdrec.data.stats.describe`, and under `dropped` how many
            rows each step took away.
    """

    split: Split
    users: DataFrame
    items: DataFrame
    stats: dict[str, object]


def prepare(
    raw: RawData,
    *,
    min_rating: float | None,
    min_user: int,
    min_item: int,
    core: bool,
    protocol: Splitter,
    seed: int,
) -> Prepared:
    """Filters, splits and numbers a data set.

    Args:
        raw: What a reader gave.
        min_rating: Ratings from here on are positive; None: every row is.
        min_user: Fewest pairs of a user; 0: any.
        min_item: Fewest pairs of an item; 0: any.
        core: Whether the minimum counts are applied again until they hold for all.
        protocol: A splitter.
        seed: Of the split.

    Returns:
        The split with indices, the id maps and the statistics.

    Raises:
        UsageError: If a threshold is asked of data without ratings, or a filter leaves nothing.
        KdrecError: If a published split has the same pair in two parts.
    """
    dropped: dict[str, int] = {}

    def keep(frame: DataFrame, mask: BoolArray, step: str) -> DataFrame:
        dropped[step] = int(len(mask) - mask.sum())
        if not mask.any():
            raise UsageError(
                f"The filter {step} leaves none of {len(mask)} interactions.",
                "Lower dataset.filters.min_rating, min_user or min_item.",
            )
        return frame if mask.all() else frame[mask]

    frame = raw.frame
    if min_rating is not None:
        frame = keep(frame, _reaches(frame, min_rating), "min_rating")
    (users, user_ids), (items, item_ids) = (pd.factorize(frame[name]) for name in ("user", "item"))
    frame = frame.assign(user=users.astype(np.int64), item=items.astype(np.int64))
    frame = keep(frame, _first_of_each_pair(frame), "duplicates")
    frame = keep(
        frame,
        _frequent(
            frame["user"].to_numpy(),
            frame["item"].to_numpy(),
            min_user=min_user,
            min_item=min_item,
            core=core,
        ),
        "min_user, min_item",
    )
    if "timestamp" in frame and not frame["timestamp"].isna().any():
        times = frame["timestamp"].to_numpy()
        if (times == np.floor(times)).all():  # else fractions of a second, which order pairs too
            frame = frame.assign(timestamp=times.astype(np.int64))
    labels = protocol(frame, rng=stream(seed, "split"))
    if labels.shape != (len(frame),) or not np.isin(labels, (LEFT_OUT, TRAIN, VALID, TEST)).all():
        raise KdrecError(
            f"The protocol gave labels of shape {labels.shape} and values "
            f"{np.unique(labels)[:5]} for {len(frame)} pairs; 0, 1, 2 or -1 for each is allowed."
        )
    frame = keep(frame, labels != LEFT_OUT, "protocol")
    labels = labels[labels != LEFT_OUT]
    return _number(frame, labels, user_ids, item_ids, raw.unbiased, dropped)


def _number(
    frame: DataFrame,
    labels: NDArray[np.int8],
    user_ids: pd.Index,
    item_ids: pd.Index,
    unbiased_pairs: DataFrame | None,
    dropped: dict[str, int],
) -> Prepared:
    """Gives the users and items that are left their indices, and makes the parts."""
    users, user_codes = pd.factorize(frame["user"])
    items, item_codes = pd.factorize(frame["item"])
    user_ids, item_ids = user_ids[user_codes], item_ids[item_codes]
    sizes = {"n_users": len(user_ids), "n_items": len(item_ids)}

    def part(label: int) -> Interactions:
        mask = labels == label
        keys = users[mask].astype(np.int64) * len(item_ids) + items[mask]
        keys.sort()  # unique already, and sorting is faster than finding that out again
        return Interactions(keys // len(item_ids), keys % len(item_ids), **sizes)

    train, valid, test = part(TRAIN), part(VALID), part(TEST)
    unbiased = None
    if unbiased_pairs is not None:
        pairs_users = user_ids.get_indexer(pd.Index(unbiased_pairs["user"]))
        pairs_items = item_ids.get_indexer(pd.Index(unbiased_pairs["item"]))
        known = (pairs_users >= 0) & (pairs_items >= 0)
        dropped["unbiased pairs of users or items that were never observed"] = int((~known).sum())
        pairs = Interactions.from_pairs(
            pairs_users[known].astype(np.int64), pairs_items[known].astype(np.int64), **sizes
        )
        seen = np.isin(pairs.keys(), np.concatenate([train.keys(), valid.keys(), test.keys()]))
        unbiased = Interactions(pairs.users[~seen], pairs.items[~seen], **sizes)
    split = Split(train, valid, test, unbiased)
    return Prepared(
        split=split,
        users=DataFrame({"id": user_ids}),
        items=DataFrame({"id": item_ids}),
        stats={**describe(split), "dropped": dropped},
    )


def _reaches(frame: DataFrame, min_rating: float) -> BoolArray:
    if "rating" not in frame:
        raise UsageError(
            f"dataset.filters.min_rating={min_rating} needs ratings, and this data has none.",
            "Set dataset.filters.min_rating=null, or name the column: dataset.reader.rating=...",
        )
    ratings = frame["rating"].to_numpy()
    missing = int(np.isnan(ratings).sum())
    if missing:
        log.warning(
            "%d of %d rows have no rating; they are dropped, since min_rating=%g was asked.",
            missing,
            len(ratings),
            min_rating,
        )
    return np.asarray(ratings >= min_rating)


def _first_of_each_pair(frame: DataFrame) -> BoolArray:
    """Marks the earliest row of each pair. Shape [rows]."""
    users, items = frame["user"].to_numpy(), frame["item"].to_numpy()
    keys = users * (items.max() + 1) + items
    ordered = np.sort(keys)
    if (ordered[1:] != ordered[:-1]).all():
        return np.ones(len(keys), dtype=np.bool_)
    by_time = next(
        (frame[name].to_numpy() for name in ("timestamp", "order") if name in frame), None
    )
    # both sorts are stable, and NaN sorts last: of equals the first in the file comes first
    order = np.argsort(keys, kind="stable") if by_time is None else np.lexsort((by_time, keys))
    ordered = keys[order]
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    if "split" in frame:
        parts = frame["split"].to_numpy()[order]
        clash = int((~first[1:] & (parts[1:] != parts[:-1])).sum())
        if clash:
            raise KdrecError(
                f"{clash} pairs are in more than one part of the split that came with the data.",
                "Mend the file: a pair may be in train, valid or test, not in two.",
            )
    mask = np.zeros(len(keys), dtype=np.bool_)
    mask[order[first]] = True
    return mask


def _frequent(
    users: IntArray, items: IntArray, *, min_user: int, min_item: int, core: bool
) -> BoolArray:
    """Marks the pairs whose user and item have enough pairs. Shape [rows]."""
    mask = np.ones(len(users), dtype=np.bool_)
    while mask.any():
        user_counts = np.bincount(users[mask], minlength=int(users.max()) + 1)
        item_counts = np.bincount(items[mask], minlength=int(items.max()) + 1)
        keep = mask & (user_counts[users] >= min_user) & (item_counts[items] >= min_item)
        settled = not core or bool((keep == mask).all())
        mask = keep
        if settled:
            break
    return mask
