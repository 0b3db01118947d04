"""The planted world has the laws it says it has."""

from __future__ import annotations

import numpy as np
import pytest

from kdrec.data import synthetic
from kdrec.data.stats import gini
from kdrec.errors import UsageError

WORLD = {
    "n_users": 400,
    "n_items": 500,
    "dim": 4,
    "affinity": 2.0,
    "alpha": 1.0,
    "bias": 1.0,
    "min_per_user": 10,
    "tail": 2.0,
    "max_share": 0.2,
    "unbiased_per_user": 5,
    "seed": 0,
}


def counts(raw, frame="frame"):
    return np.bincount(getattr(raw, frame)["item"], minlength=WORLD["n_items"])


def exposure_rank(seed):
    """The planted popularity ranks, drawn as the module says it draws them."""
    from kdrec.seeding import stream

    return 1 + stream(seed, "world", "popularity").permutation(WORLD["n_items"])


def test_the_same_seed_gives_the_same_world():
    first, again, other = (synthetic.read([], **WORLD | {"seed": s}) for s in (0, 0, 1))
    assert first.frame.equals(again.frame)
    assert first.unbiased.equals(again.unbiased)
    assert not first.frame.equals(other.frame)


def test_pairs_are_unique_and_the_unbiased_ones_are_others():
    raw = synthetic.read([], **WORLD)
    observed = raw.frame["user"] * WORLD["n_items"] + raw.frame["item"]
    unbiased = raw.unbiased["user"] * WORLD["n_items"] + raw.unbiased["item"]
    assert observed.is_unique
    assert unbiased.is_unique
    assert not set(observed) & set(unbiased)
    assert (raw.unbiased.groupby("user").size() == WORLD["unbiased_per_user"]).all()


def test_times_rise_within_a_user_in_the_order_of_the_draws():
    frame = synthetic.read([], **WORLD).frame
    steps = frame["timestamp"].diff()[frame["user"].diff() == 0]
    assert (steps >= 0).all()
    assert frame["timestamp"].max() - frame["timestamp"].min() <= synthetic.YEAR_S


def test_chunks_change_nothing_but_memory(monkeypatch):
    whole = synthetic.read([], **WORLD)
    monkeypatch.setattr(synthetic, "CHUNK_PAIRS", 7 * WORLD["n_items"])
    parts = synthetic.read([], **WORLD)
    # a user's noise comes from the same place of the stream, whatever the chunk
    assert parts.unbiased.equals(whole.unbiased)
    assert parts.frame.equals(whole.frame)


def test_bias_makes_the_exposed_popular_and_leaves_the_unbiased_set_alone():
    rank = exposure_rank(0)
    head = rank <= 50
    shares = {}
    for bias in (0.0, 0.5, 1.0):
        raw = synthetic.read([], **WORLD | {"bias": bias})
        for frame in ("frame", "unbiased"):
            seen = counts(raw, frame)
            shares[frame, bias] = seen[head].sum() / seen.sum()
    assert shares["frame", 0.0] == pytest.approx(0.1, abs=0.03)
    assert shares["frame", 0.0] + 0.1 < shares["frame", 0.5] < shares["frame", 1.0] - 0.1
    assert shares["unbiased", 0.0] == shares["unbiased", 0.5] == shares["unbiased", 1.0]
    assert shares["unbiased", 1.0] == pytest.approx(0.1, abs=0.03)


def test_without_affinity_and_bias_every_item_is_as_likely():
    raw = synthetic.read([], **WORLD | {"affinity": 0.0, "bias": 0.0})
    seen = counts(raw)
    expected = seen.sum() / WORLD["n_items"]
    # the variance of a draw without replacement is at most the binomial one
    assert ((seen - expected) ** 2 / expected).mean() == pytest.approx(1, abs=0.25)


def test_without_affinity_popularity_follows_the_power_law():
    options = {"affinity": 0.0, "n_users": 4000, "min_per_user": 1, "tail": 50.0}
    raw = synthetic.read([], **WORLD | options | {"unbiased_per_user": 0})
    seen = counts(raw)
    expected = len(raw.frame) / exposure_rank(0) / (1 / np.arange(1, 501)).sum()
    top = expected > 50
    assert top.sum() >= 8
    assert seen[top] == pytest.approx(expected[top], rel=0.35)


def test_affinity_is_what_the_unbiased_set_shows():
    from kdrec.seeding import stream

    raw = synthetic.read([], **WORLD)
    factors = stream(0, "world", "factors")
    users = factors.standard_normal((400, 4), dtype=np.float32)
    items = factors.standard_normal((500, 4), dtype=np.float32)
    affinity = users @ items.T * WORLD["affinity"] / 2
    assert affinity.std() == pytest.approx(WORLD["affinity"], rel=0.15)
    drawn = affinity[raw.unbiased["user"], raw.unbiased["item"]]
    # one softmax draw of user u has the expected affinity sum_i a_ui softmax(a_u)_i
    weights = np.exp(affinity - affinity.max(axis=1, keepdims=True))
    expected = ((affinity * weights).sum(axis=1) / weights.sum(axis=1)).mean()
    assert drawn.mean() == pytest.approx(expected, rel=0.1)


def test_activity_has_its_tail():
    drawn = synthetic.activity(200_000, 10, 2.0, 10**9, np.random.default_rng(0))
    assert drawn.min() == 10
    for times in (2, 4, 8):
        assert (drawn >= 10 * times).mean() == pytest.approx(times**-2.0, rel=0.05)
    capped = synthetic.activity(1000, 10, 0.5, 50, np.random.default_rng(0))
    assert capped.max() == 50


def test_gumbel_top_is_drawing_without_replacement():
    weights = np.array([0.5, 0.3, 0.2])
    logits = np.tile(np.log(weights).astype(np.float32), (200_000, 1))
    drawn = synthetic.gumbel_top(logits, 2, np.random.default_rng(0))
    for first in range(3):
        for second in {0, 1, 2} - {first}:
            expected = weights[first] * weights[second] / (1 - weights[first])
            found = ((drawn[:, 0] == first) & (drawn[:, 1] == second)).mean()
            assert found == pytest.approx(expected, abs=0.005)


def test_gumbel_top_never_draws_what_is_excluded():
    logits = np.zeros((1000, 6), dtype=np.float32)
    logits[:, 2] = -np.inf
    drawn = synthetic.gumbel_top(logits, 5, np.random.default_rng(0))
    assert not (drawn == 2).any()
    assert synthetic.gumbel_top(logits, 0, np.random.default_rng(0)).shape == (1000, 0)


def test_the_default_world_resembles_the_real_sets():
    import yaml

    from tests.conftest import ROOT

    options = yaml.safe_load((ROOT / "conf/dataset/synthetic.yaml").read_text())["reader"]
    options = {name: value for name, value in options.items() if not name.startswith("_")}
    raw = synthetic.read([], **options)
    assert 60_000 < len(raw.frame) < 100_000
    seen = np.bincount(raw.frame["item"], minlength=options["n_items"])
    assert 0.52 < gini(seen) < 0.67, "between CiteULike and Apps"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bias": -1}, "bias must be at least 0, got -1"),
        ({"n_users": 0}, "n_users must be at least 1"),
        ({"n_items": 40}, "40 items are too few"),
        ({"unbiased_per_user": 450}, "too few"),
    ],
)
def test_impossible_worlds_are_refused(change, says):
    with pytest.raises(UsageError, match=says):
        synthetic.read([], **WORLD | change)


def test_there_is_nothing_to_read(tmp_path):
    with pytest.raises(UsageError, match="drawn, not read"):
        synthetic.read([tmp_path], **WORLD)
