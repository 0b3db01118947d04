"""A planted world: who would like what is known, and so is what keeps them from seeing it.

Users u = 1..U and items i = 1..I; every draw comes from a named stream of one seed.

*Affinity* (the truth). Latent factors `p_u, q_i ~ N(0, 1)^d`, and

    a_ui = s * p_u . q_i / sqrt(d),

so that affinities have mean 0 and standard deviation about `s` (`affinity`).

*Popularity and exposure.* The items get random ranks r_i = 1..I, which have nothing to do with
affinity, and a power law gives the weight `w_i = r_i^(-alpha)` (`alpha`). A user comes across an
item with odds proportional to

    e_i = w_i^beta,

`beta` (`bias`) being the strength of the popularity bias: 0, everything is equally visible; 1, the
power law itself.

*Activeness.* User u has `n_u = floor(m * (1 - x_u)^(-1 / tau))` interactions, `x_u ~ U(0, 1)`: a
Pareto tail with exponent `tau` (`tail`) from `m` (`min_per_user`) on, cut at `max_share` of the
items.

*The unbiased test set* is set aside first: for each user `unbiased_per_user` items, drawn without
replacement with probability proportional to `exp(a_ui)`, affinity alone. Nobody gets to see these
pairs otherwise: they are no part of what is observed. (Items that nobody is observed with are no
part of the catalogue: their pairs are left out of the set, and counted in the statistics.)

*What is observed.* From the items not set aside u takes n_u, one after the other, each time among
those that are left with probability proportional to `e_i * exp(a_ui)`.

Both are Plackett-Luce draws, made in one go by ranking, for the second,

    a_ui + beta * log w_i + g_ui,    g_ui ~ Gumbel(0, 1),

and taking the n_u highest (Gumbel top-k; Yellott, 1977; Kool et al., 2019). The rank is the order
of consumption; n_u times are drawn uniformly from one year and sorted.

Memory: users are drawn in chunks of at most 2^22 pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from kdrec.data.interactions import IntArray
from kdrec.data.raw import RawData
from kdrec.errors import UsageError
from kdrec.seeding import stream

CHUNK_PAIRS = 1 << 22
YEAR_S = 365 * 24 * 3600
START_S = 1_700_000_000

Floats = NDArray[np.float32]


def read(
    paths: Sequence[Path],
    *,
    n_users: int,
    n_items: int,
    dim: int,
    affinity: float,
    alpha: float,
    bias: float,
    min_per_user: int,
    tail: float,
    max_share: float,
    unbiased_per_user: int,
    seed: int,
) -> RawData:
    """Draws the world; there is nothing to read.

    Args:
        paths: None: the data set has no file.
        n_users: U.
        n_items: I.
        dim: Number of latent factors, d.
        affinity: Standard deviation of the affinities, s.
        alpha: Exponent of the power law of popularity.
        bias: Strength of the popularity bias, beta; 0 = none.
        min_per_user: Fewest interactions of a user, m.
        tail: Exponent of the tail of activeness, tau; smaller = a longer tail.
        max_share: Most interactions of a user, as a share of the items.
        unbiased_per_user: Pairs of each user in the unbiased test set.
        seed: Of the world (not of the split).

    Returns:
        Pairs with times, users from 0 and items from 0, and the unbiased test set.

    Raises:
        UsageError: If a path is given or a value is out of range.
    """
    if paths:
        raise UsageError("dataset=synthetic is drawn, not read.", "Leave dataset.path=null.")
    for name, value, least in (
        ("n_users", n_users, 1),
        ("n_items", n_items, 2),
        ("dim", dim, 1),
        ("affinity", affinity, 0),
        ("alpha", alpha, 0),
        ("bias", bias, 0),
        ("min_per_user", min_per_user, 1),
        ("tail", tail, 0.1),
        ("max_share", max_share, 0),
        ("unbiased_per_user", unbiased_per_user, 0),
    ):
        if value < least:
            raise UsageError(
                f"dataset.reader.{name} must be at least {least}, got {value}.",
                "See conf/dataset/synthetic.yaml for sensible values.",
            )
    cap = math.floor(max_share * n_items)
    if min_per_user > cap or cap + unbiased_per_user > n_items:
        raise UsageError(
            f"{n_items} items are too few for users with {min_per_user} to {cap} of them and "
            f"{unbiased_per_user} more to test on.",
            "Raise dataset.reader.n_items, or lower max_share or unbiased_per_user.",
        )
    factors = stream(seed, "world", "factors")
    users = factors.standard_normal((n_users, dim), dtype=np.float32)
    items = factors.standard_normal((n_items, dim), dtype=np.float32)
    users *= affinity / math.sqrt(dim)
    ranks = 1 + stream(seed, "world", "popularity").permutation(n_items)
    exposure = (-bias * alpha * np.log(ranks)).astype(np.float32)
    n_taken = activity(n_users, min_per_user, tail, cap, stream(seed, "world", "activeness"))
    noise = stream(seed, "world", "choice")
    unbiased_noise = stream(seed, "world", "unbiased")
    taken, unbiased = [], []
    step = max(1, CHUNK_PAIRS // n_items)
    for start in range(0, n_users, step):
        liking = users[start : start + step] @ items.T
        aside = gumbel_top(liking, unbiased_per_user, unbiased_noise)
        np.put_along_axis(liking, aside, -np.inf, axis=1)
        sizes = n_taken[start : start + step]
        top = gumbel_top(liking + exposure, int(sizes.max()), noise)
        unbiased.append(aside)
        taken.append(top[np.arange(top.shape[1]) < sizes[:, None]])
    owner = np.repeat(np.arange(n_users), n_taken)
    return RawData(
        DataFrame(
            {
                "user": owner,
                "item": np.concatenate(taken),
                "timestamp": _times(owner, stream(seed, "world", "time")),
            }
        ),
        DataFrame(
            {
                "user": np.repeat(np.arange(n_users), unbiased_per_user),
                "item": np.concatenate(unbiased).ravel(),
            }
        ),
    )


def activity(
    n_users: int, least: int, tail: float, most: int, rng: np.random.Generator
) -> IntArray:
    """Numbers of interactions with a Pareto tail, `floor(least * (1 - x)^(-1/tail))`, cut at most.

    Returns:
        A number from `least` to `most` for each user. Shape [n_users].
    """
    drawn = least * (1 - rng.random(n_users)) ** (-1 / tail)
    return np.minimum(drawn, most).astype(np.int64)


def gumbel_top(logits: Floats, k: int, rng: np.random.Generator) -> IntArray:
    """Draws k columns without replacement from each row's softmax, in the order drawn.

    Args:
        logits: Unnormalised log-probabilities; -inf is never drawn. Shape [rows, n].
        k: How many, at most the number of finite entries of a row.
        rng: Where chance comes from.

    Returns:
        Columns, first drawn first. Shape [rows, k].
    """
    uniform = rng.random(logits.shape, dtype=np.float32)
    # 1 - x is in (0, 1], so the inner logarithm is finite; its 0 would be a Gumbel of +inf
    gumbel = -np.log(np.maximum(-np.log1p(-uniform), np.float32(1e-12)))
    scores = logits + gumbel
    top = np.argpartition(-scores, max(k - 1, 0), axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1).astype(np.int64)


def _times(owner: IntArray, rng: np.random.Generator) -> IntArray:
    """Sorted uniform times of one year for each user's draws. Shape [len(owner)]."""
    times = rng.random(len(owner)) * YEAR_S
    return START_S + times[np.lexsort((times, owner))].astype(np.int64)
