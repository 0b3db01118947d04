from __future__ import annotations

import numpy as np
import pytest
import torch

from kdrec.data.interactions import Interactions, Split
from kdrec.data.sampling import NegativeSampler
from kdrec.errors import KdrecError, UsageError
from kdrec.evaluation.grouped import quick
from kdrec.evaluation.metrics import ndcg
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.unkd import UnKD
from kdrec.models.base import Backbone, Batch, Vectors, frozen
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from kdrec.training.average import Average
from kdrec.training.loop import FitResult, fit
from kdrec.training.stopping import EarlyStopping
from kdrec.training.trainer import batches
from tests.worlds import blocks

CPU = torch.device("cpu")
OPTIONS = {
    "name": "test", "optimiser": "adam", "lr": 0.02, "lr_factor": 1.0, "average": 0.0, "l2": 1e-3,
    "batch_size": 64, "epochs": 30, "eval_every": 2, "patience": 30, "cutoff": 5, "checkpoints": 0,
    "data_weight": 1.0, "weight": 0.5, "seed": 0, "eval_batch_size": 16, "device": CPU,
}  # fmt: skip


def student(split: Split, dim: int = 4, seed: int = 0) -> BPRMF:
    return BPRMF(split.train, dim=dim, generator=torch_stream(seed, "init"))


def train(
    model: BPRMF, split: Split, distiller: Distiller | None = None, **options: object
) -> FitResult:
    return fit(model, distiller, split, **{**OPTIONS, **options})  # type: ignore[arg-type]


class Push(Distiller):
    """A distiller with one parameter, that wants the student's item vectors to be at it."""

    def __init__(self) -> None:
        super().__init__()
        self.centre = torch.nn.Parameter(torch.ones(4))
        self.epochs: list[int] = []

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        self.epochs.append(epoch)

    def loss(self, batch: Batch, vectors: Vectors) -> torch.Tensor:
        return (vectors.items - self.centre).square().mean()


def test_an_epoch_shows_every_pair_once_with_a_negative() -> None:
    split = blocks()
    sampler = NegativeSampler(split.train, device=CPU)
    epoch = batches(split.train, sampler, 64, torch_stream(0, "pairs"), CPU)
    first, second = list(epoch()), list(epoch())
    keys = [
        torch.cat([one.users * split.n_items + one.positives for one in shown]).numpy()
        for shown in (first, second)
    ]
    assert all((np.sort(each) == split.train.keys()).all() for each in keys)
    assert (keys[0] != keys[1]).any()
    assert [one.step for one in first] == list(range(first[0].n_steps))
    negative = torch.cat([one.users * split.n_items + one.negatives for one in first]).numpy()
    assert not np.isin(negative, split.train.keys()).any()


def test_the_best_epoch_is_kept_and_patience_ends_training() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    stopping = EarlyStopping(patience=10)
    stops = []
    for epoch, value in ((5, 0.3), (10, 0.5), (15, 0.5), (20, 0.4)):
        model.weight.data.fill_(epoch)
        stops.append(stopping.update(value, epoch, model))
    assert stops == [False, False, False, True]
    stopping.restore(model)
    assert (stopping.best_epoch, float(model.weight.detach())) == (10, 10.0)


def test_the_average_is_a_plain_mean_first_and_an_exponential_one_later() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average, seen = Average(model, 0.75), []
    expected = 0.0
    for epoch in range(1, 8):
        model.weight.data.fill_(epoch**2)
        average.update(epoch)
        expected += max(0.25, 1 / epoch) * (epoch**2 - expected)
        with average.in_place():
            seen.append(float(model.weight.detach()))
        assert float(model.weight.detach()) == epoch**2
        assert seen[-1] == pytest.approx(expected)
    assert seen[:3] == pytest.approx([1, 2.5, 14 / 3])
    Average(model, 0.0).update(1)
    with Average(model, 0.0).in_place():
        assert float(model.weight.detach()) == 49


def test_what_is_evaluated_and_kept_is_the_average() -> None:
    split = blocks()
    plain, mean = student(split), student(split)
    train(plain, split, epochs=2, eval_every=2)
    result = train(mean, split, epochs=2, eval_every=2, average=0.9)
    value = quick(
        frozen(mean), split.valid, mask=[split.train], metrics={"ndcg": ndcg}, cutoffs=[5], seed=0,
        batch_size=16,
    )["ndcg@5"]  # fmt: skip
    assert result.best_value == value
    once = student(split)
    train(once, split, epochs=1, eval_every=1)
    assert torch.allclose(mean.user_table, (plain.user_table + once.user_table) / 2, atol=1e-6)


def small(kind: type[UnKD], split: Split, *, swap_defect: bool) -> UnKD:
    teacher = Teacher(frozen(student(split, dim=8, seed=7)), None)
    return kind(
        split.train, teacher, n_groups=2, grouping="popularity", n_pairs=6, mu=4.0, pool=50,
        norm="paper", visits="once", swap_defect=swap_defect, seed=0, batch_size=16, device=CPU,
    )  # fmt: skip


@pytest.mark.parametrize("optimiser", ["adam", "lazy_adam"])
def test_weight_zero_moves_no_row_more_than_no_method_does(optimiser: str) -> None:
    split = blocks()
    method = small(UnKD, split, swap_defect=True)
    alone, weightless = student(split), student(split)
    train(alone, split, epochs=4, optimiser=optimiser)
    result = train(weightless, split, method, epochs=4, optimiser=optimiser, weight=0.0)
    assert torch.equal(alone.item_table, weightless.item_table)
    assert all(row["distillation"] > 0 and row["gradient_ratio"] > 0 for row in result.history)


def test_what_a_method_tells_stands_in_the_history() -> None:
    class Counting(UnKD):
        looks = 0

        def told(self) -> dict[str, float]:
            self.looks += 1
            return {"looks": float(self.looks)}

    split = blocks()
    method = small(Counting, split, swap_defect=False)
    result = train(student(split), split, method, epochs=6, eval_every=2)
    assert [row["looks"] for row in result.history] == [1, 2, 3]
    assert all("gradient_ratio" in row for row in result.history)


def test_an_unknown_optimiser_is_refused() -> None:
    with pytest.raises(UsageError, match="sgd"):
        train(student(blocks()), blocks(), optimiser="sgd")


def test_the_learning_rate_is_multiplied() -> None:
    split = blocks()
    found = [student(split) for _ in range(2)]
    train(found[0], split, lr=0.002, lr_factor=10.0)
    train(found[1], split, lr=0.02)
    assert torch.equal(found[0].item_table, found[1].item_table)


def test_training_learns_and_ends_at_its_best_epoch() -> None:
    split = blocks()
    model = student(split)
    result = train(model, split)
    assert result.best_value > 3 * result.history[0]["ndcg@5"]
    assert result.best_value == max(row["ndcg@5"] for row in result.history)
    assert [row["epoch"] for row in result.history] == list(range(2, 31, 2))


def test_the_same_seed_trains_the_same_bytes_and_another_does_not() -> None:
    tables = []
    for seed in (0, 0, 1):
        model = student(blocks())
        train(model, blocks(), seed=seed)
        tables.append(model.item_table.detach())
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def test_parameters_of_the_distiller_are_trained_and_its_epochs_begin() -> None:
    distiller = Push()
    result = train(student(blocks()), blocks(), distiller, epochs=6)
    assert distiller.epochs == [1, 2, 3, 4, 5, 6]
    assert not torch.equal(distiller.centre.detach(), torch.ones(4))
    assert all(row["gradient_ratio"] > 0 for row in result.history)


def test_weight_zero_trains_what_no_distiller_trains() -> None:
    with_, without = student(blocks()), student(blocks())
    train(with_, blocks(), Push(), weight=0.0)
    train(without, blocks())
    assert torch.allclose(with_.item_table, without.item_table)


def test_a_student_with_unkd_beats_the_student_alone_in_a_world_without_noise() -> None:
    """The teacher knows the blocks; the student has seen a third of their pairs."""
    whole = blocks(users=60, items=80, n_blocks=4)
    keep = np.random.default_rng(0).random(len(whole.train)) < 0.3
    few = Interactions.from_pairs(
        whole.train.users[keep], whole.train.items[keep], n_users=60, n_items=80
    )
    split = Split(few, whole.valid, whole.test)
    teacher = student(whole, dim=16)
    train(teacher, whole)
    method = UnKD(
        split.train, Teacher(frozen(teacher), None), n_groups=2, grouping="popularity", n_pairs=10,
        mu=10.0, pool=1000, norm="paper", visits="once", swap_defect=False, seed=0,
        batch_size=16, device=CPU,
    )  # fmt: skip
    before = frozen(teacher).scores(torch.arange(60)).clone()
    distilled, alone = train(student(split), split, method), train(student(split), split)
    assert distilled.best_value > alone.best_value + 0.02
    assert torch.equal(before, frozen(teacher).scores(torch.arange(60)))


def test_a_loss_that_explodes_stops_with_epoch_and_the_likely_setting() -> None:
    with pytest.raises(KdrecError, match=r"not finite in epoch \d+") as error:
        train(student(blocks()), blocks(), lr=1e30)
    assert "lr=1e+30" in error.value.hint


def test_a_split_without_validation_is_refused() -> None:
    split = blocks()
    nothing = Interactions.from_pairs(
        np.array([], dtype=np.int64), np.array([], dtype=np.int64),
        n_users=split.n_users, n_items=split.n_items,
    )  # fmt: skip
    with pytest.raises(KdrecError, match="no validation"):
        train(student(split), Split(split.train, nothing, split.test))


@pytest.mark.parametrize(
    ("option", "value"),
    [("lr", 0.0), ("lr", float("nan")), ("l2", -1.0), ("batch_size", 0), ("epochs", 0),
     ("eval_every", 0), ("patience", 0), ("weight", -0.1), ("lr_factor", 0.0), ("average", 1.0)],
)  # fmt: skip
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(UsageError, match=option):
        train(student(blocks()), blocks(), **{option: value})
