"""What flows out of preprocessing: frozen, and validated when it is made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kdrec.errors import KdrecError

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """Positive user-item pairs, unique, sorted by user and then item.

    Args:
        users: User of each pair, in `0..n_users-1`. Shape [n].
        items: Item of each pair, in `0..n_items-1`. Shape [n].
        n_users: Number of users, also of those without a pair here.
        n_items: Number of items, also of those without a pair here.

    Raises:
        KdrecError: If the arrays differ in length, leave their range, are unsorted or repeat.
    """

    users: IntArray
    items: IntArray
    n_users: int
    n_items: int

    def __post_init__(self) -> None:
        if self.users.ndim != 1 or self.users.shape != self.items.shape:
            raise KdrecError(
                "Interactions need two one-dimensional arrays of the same length, "
                f"got shapes {self.users.shape} and {self.items.shape}."
            )
        for name, ids, size in (
            ("user", self.users, self.n_users),
            ("item", self.items, self.n_items),
        ):
            if ids.dtype != np.int64:
                raise KdrecError(f"The {name} indices must be int64, got {ids.dtype}.")
            if len(ids) and (ids.min() < 0 or ids.max() >= size):
                raise KdrecError(
                    f"A {name} index lies outside 0..{size - 1}: "
                    f"the smallest is {ids.min()}, the largest {ids.max()}."
                )
        keys = self.keys()
        if len(keys) > 1 and not bool(np.all(keys[1:] > keys[:-1])):
            raise KdrecError(
                "Interactions must be sorted by (user, item) and unique.",
                "Make them with Interactions.from_pairs, which sorts and drops repeats.",
            )

    @classmethod
    def from_pairs(
        cls, users: IntArray, items: IntArray, *, n_users: int, n_items: int
    ) -> Interactions:
        """Sorts the pairs and drops repeats."""
        users = np.asarray(users, dtype=np.int64)
        items = np.asarray(items, dtype=np.int64)
        for name, ids, size in (("user", users, n_users), ("item", items, n_items)):
            if len(ids) and (ids.min() < 0 or ids.max() >= size):
                raise KdrecError(f"A {name} index lies outside 0..{size - 1}.")
        keys = np.sort(users * np.int64(n_items) + items)  # np.unique hashes, which is slower
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]]
        return cls(keys // n_items, keys % n_items, n_users, n_items)

    def __len__(self) -> int:
        return len(self.users)

    def keys(self) -> IntArray:
        """`user * n_items + item` of each pair, ascending. Shape [n]."""
        return self.users * np.int64(self.n_items) + self.items

    def indptr(self) -> IntArray:
        """Row pointers: the pairs of user u are at `indptr[u]:indptr[u+1]`. Shape [n_users+1]."""
        counts = np.bincount(self.users, minlength=self.n_users)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])

    def user_counts(self) -> IntArray:
        """Number of pairs of each user. Shape [n_users]."""
        return np.bincount(self.users, minlength=self.n_users).astype(np.int64)

    def item_counts(self) -> IntArray:
        """Number of pairs of each item: its popularity. Shape [n_items]."""
        return np.bincount(self.items, minlength=self.n_items).astype(np.int64)

    def union(self, other: Interactions) -> Interactions:
        """The pairs that are in either."""
        return Interactions.from_pairs(
            np.concatenate([self.users, other.users]),
            np.concatenate([self.items, other.items]),
            n_users=self.n_users,
            n_items=self.n_items,
        )

    def digest(self) -> str:
        """sha256 of the sizes and the arrays, in little-endian bytes."""
        sha = hashlib.sha256(f"{self.n_users},{self.n_items},{len(self)};".encode())
        sha.update(self.users.astype("<i8").tobytes())
        sha.update(self.items.astype("<i8").tobytes())
        return sha.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Training, validation and test pairs of one data set.

    Args:
        train: What models learn from, and what popularity and activeness are counted on.
        valid: What early stopping and the choice of hyper-parameters look at.
        test: What is reported.
        unbiased: A second test set, drawn by true affinity alone; known for synthetic data only.
        digest: sha256 over the digests of the parts; filled in when the split is made.

    Raises:
        KdrecError: If the parts differ in size or share a pair, or if training is empty.
    """

    train: Interactions
    valid: Interactions
    test: Interactions
    unbiased: Interactions | None = None
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        if self.unbiased is not None:
            parts["unbiased"] = self.unbiased
        sizes = {name: (part.n_users, part.n_items) for name, part in parts.items()}
        if len(set(sizes.values())) != 1:
            raise KdrecError(f"The parts of a split must have the same (users, items): {sizes}.")
        if not len(self.train):
            raise KdrecError(
                "The training part of the split is empty.", "Lower the filters or the shares."
            )
        for first, second in (
            ("train", "valid"),
            ("train", "test"),
            ("valid", "test"),
            ("train", "unbiased"),
            ("valid", "unbiased"),
        ):
            if first in parts and second in parts:
                shared = np.intersect1d(
                    parts[first].keys(), parts[second].keys(), assume_unique=True
                )
                if len(shared):
                    raise KdrecError(
                        f"The {first} and {second} parts of the split share {len(shared)} pairs."
                    )
        sha = hashlib.sha256()
        for name, part in parts.items():
            sha.update(f"{name}:{part.digest()};".encode())
        object.__setattr__(self, "digest", sha.hexdigest())

    @property
    def n_users(self) -> int:
        """Number of users."""
        return self.train.n_users

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.train.n_items
