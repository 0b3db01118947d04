"""Each tuned routine beside its naive twin."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.nn import functional

from kdrec.kernels import topk
from kdrec.kernels.adam import DenseAdam, LazyAdam
from kdrec.kernels.bpr import BPRLoss, squared_norm
from kdrec.kernels.dots import dots
from kdrec.kernels.draws import RankPairs, draw_ranks
from kdrec.kernels.first import FirstOf
from kdrec.kernels.propagate import MeanOfLayers
from kdrec.kernels.rows import RowGradient, drop_gradient, keep_gradient, lookup
from kdrec.kernels.threads import few_threads
from kdrec.kernels.topk import top
from kdrec.models.lightgcn import normalised_adjacency
from kdrec.seeding import torch_stream
from tests.conftest import ROOT
from tests.worlds import random_interactions

USERS, POSITIVES = torch.tensor([0, 3, 3]), torch.tensor([1, 2, 4])
NEGATIVES, OWN = torch.tensor([0, 0, 1]), torch.tensor([[2, 0], [2, 1], [2, 2]])
PAIRS = torch.cat([POSITIVES, NEGATIVES])
CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ],
)


def tables(*sizes: int, dim: int = 3) -> list[nn.Parameter]:
    draw = torch_stream(0, "tables")
    return [
        nn.Parameter(torch.randn(size, dim, generator=draw, dtype=torch.float64)) for size in sizes
    ]


def bpr_twin(users: Tensor, items: Tensor, l2: float) -> Tensor:
    loss = torch.zeros((), dtype=users.dtype)
    for u, i, j in zip(USERS.tolist(), POSITIVES.tolist(), NEGATIVES.tolist(), strict=True):
        loss = loss - functional.logsigmoid(users[u] @ items[i] - users[u] @ items[j]) / 3
        for row in (users[u], items[i], items[j]):
            loss = loss + l2 * row.square().sum() / 6
    return loss


def dots_twin(users: Tensor, items: Tensor) -> Tensor:
    return torch.stack(
        [
            torch.stack([users[u] @ items[i] for i in own])
            for u, own in zip(USERS.tolist(), OWN.tolist(), strict=True)
        ]
    )


ROUTINES = {
    "lookup": (lambda u, i: lookup(i, OWN).square(), lambda u, i: i[OWN].square()),
    "squared_norm": (lambda u, i: squared_norm(i, PAIRS), lambda u, i: i[PAIRS].square().sum()),
    "bpr": (lambda u, i: BPRLoss()(u, i, USERS, PAIRS, 0.1), lambda u, i: bpr_twin(u, i, 0.1)),
    "bpr alone": (lambda u, i: BPRLoss()(u, i, USERS, PAIRS, 0), lambda u, i: bpr_twin(u, i, 0)),
    "dots turned": (
        lambda u, i: dots(u, i, USERS, OWN).T.contiguous().exp(),
        lambda u, i: dots_twin(u, i).T.exp(),
    ),
    "dots": (lambda u, i: dots(u, i, USERS, OWN).square(), lambda u, i: dots_twin(u, i).square()),
}  # fmt: skip


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", ROUTINES)
def test_a_routine_and_its_gradient_are_those_of_its_twin(name: str, kept: bool) -> None:
    ours, twin = ROUTINES[name]
    mine, theirs = tables(4, 5), tables(4, 5)
    gradients = [keep_gradient(table) for table in mine] if kept else []
    for _ in range(2):
        found, expected = ours(*mine), twin(*theirs)
        assert torch.allclose(found, expected, rtol=1e-12)
        (found * 0.7).sum().backward()
        (expected * 0.7).sum().backward()
        for one, other in zip(mine, theirs, strict=True):
            wanted = torch.zeros_like(other) if other.grad is None else other.grad
            got = torch.zeros_like(one) if one.grad is None else one.grad
            assert torch.allclose(got, wanted, rtol=1e-12)
            one.grad, other.grad = (None, None) if not kept else (one.grad, None)
        for gradient in gradients:
            gradient.clear()
            assert not gradient.dense.any()


@pytest.mark.parametrize("name", ROUTINES)
def test_a_gradient_is_that_of_finite_differences(name: str) -> None:
    ours, _ = ROUTINES[name]
    assert torch.autograd.gradcheck(ours, tuple(tables(4, 5)))


def test_a_bpr_loss_keeps_its_work_from_step_to_step_and_refuses_a_stale_graph() -> None:
    loss, users_items = BPRLoss(), tables(4, 5)
    first = loss(*users_items, USERS, PAIRS, 0.1)
    grads = [torch.autograd.grad(first, users_items, retain_graph=True) for _ in range(2)]
    assert torch.equal(grads[0][0], grads[1][0])
    kept = loss.free
    assert kept is not None
    smaller = loss(*users_items, USERS[:2], PAIRS[:4], 0.1)
    smaller.backward()
    assert loss.free is not kept
    loss.free = kept
    second = loss(*users_items, USERS, PAIRS, 0.1)
    assert torch.equal(torch.autograd.grad(second, users_items)[0], grads[0][0])
    with pytest.raises(RuntimeError, match="computed again"):
        first.backward()


def test_lookups_and_plain_autograd_add_up_in_a_kept_gradient() -> None:
    (mine,), (theirs,) = tables(50), tables(50)
    gradient = keep_gradient(mine)
    for plain in (False, True, False):
        for table, rows in ((mine, lookup(mine, OWN)), (theirs, theirs[OWN])):
            loss = rows.square().sum() + (table.sum() if plain else 0)
            loss.backward()
        assert gradient.everywhere == plain
        assert mine.grad is gradient.dense
        assert torch.allclose(mine.grad, theirs.grad)  # type: ignore[arg-type]
        gradient.clear()
        theirs.grad = None
        assert not gradient.dense.any()


def test_rows_of_a_large_table_are_cleared_alone() -> None:
    table = nn.Parameter(torch.ones(500, 3))
    gradient = keep_gradient(table)
    lookup(table, OWN).sum().backward()
    gradient.dense.data[400] = 7.0  # unnoticed: it stays if the written rows alone are cleared
    gradient.clear()
    assert gradient.dense.nonzero()[:, 0].unique().tolist() == [400]


@pytest.mark.parametrize("optimiser", ["adam", "lazy_adam"])
def test_a_parameter_without_rows_may_have_any_shape(optimiser: str) -> None:
    scalar = nn.Parameter(torch.ones(()))
    gradient = keep_gradient(scalar)
    made = LazyAdam([scalar], 0.1) if optimiser == "lazy_adam" else DenseAdam([scalar], 0.1)
    made.step()
    gradient.clear()
    assert float(scalar.detach()) == 1.0
    (scalar * 2).backward()
    made.step()
    gradient.clear()
    assert float(scalar.detach()) < 1.0
    assert float(gradient.dense) == 0


def test_a_dropped_gradient_is_gone() -> None:
    (table,) = tables(5)
    keep_gradient(table)
    drop_gradient(table)
    assert table.grad is None
    assert RowGradient.of(table) is None


@pytest.mark.parametrize("name", ["lookup", "dots", "bpr", "squared_norm"])
def test_a_second_derivative_is_refused(name: str) -> None:
    users_items = tables(4, 5)
    loss = ROUTINES[name][0](*users_items).pow(3).sum()
    (first,) = torch.autograd.grad(loss, [users_items[1]], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_small_blocks_have_one_thread_and_large_ones_all() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with few_threads(10):
            assert torch.get_num_threads() == 1
        with few_threads(1 << 20):
            assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError), few_threads(10):
            _ = 1 // 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_gradient_that_was_replaced_is_not_written_to() -> None:
    (table,) = tables(5)
    keep_gradient(table)
    table.grad = None
    lookup(table, OWN).sum().backward()
    assert table.grad is not None
    assert float(table.grad.sum()) == 18


@pytest.mark.parametrize("n_layers", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kept", [True, False])
def test_the_mean_of_layers_is_that_of_dense_products(n_layers: int, kept: bool) -> None:
    train = random_interactions(users=7, items=9, density=0.3)
    adjacency = normalised_adjacency(train).to(torch.float64)
    (mine,), (theirs,) = tables(16), tables(16)
    if kept:
        gradient = keep_gradient(mine)
    mean = MeanOfLayers(n_layers, 7)
    for plain in (False, True, False):
        dense = adjacency.to_dense()
        layers = [torch.linalg.matrix_power(dense, layer) @ theirs for layer in range(n_layers + 1)]
        wanted = torch.stack(layers).mean(0)
        users, items = mean(adjacency, mine)
        assert torch.allclose(torch.cat([users, items]), wanted)
        loss = lookup(users, OWN).square().sum() + lookup(items, USERS).pow(3).sum()
        twin = wanted[:7][OWN].square().sum() + wanted[7:][USERS].pow(3).sum()
        if plain:
            loss, twin = loss + items.exp().sum(), twin + wanted[7:].exp().sum()
        (loss + squared_norm(mine, POSITIVES)).backward()
        (twin + theirs[POSITIVES].square().sum()).backward()
        assert torch.allclose(mine.grad, theirs.grad)  # type: ignore[arg-type]
        if kept:
            gradient.clear()
        else:
            mine.grad = None
        theirs.grad = None


def test_two_passes_forward_before_one_backward_do_not_mix() -> None:
    adjacency = normalised_adjacency(random_interactions(users=7, items=9)).to(torch.float64)
    (table,) = tables(16)
    mean = MeanOfLayers(2, 7)
    first, second = mean(adjacency, table), mean(adjacency, table)
    lookup(first[0], USERS).sum().backward()
    once, table.grad = table.grad, None
    lookup(second[0], USERS).sum().backward()
    assert once is not None
    assert torch.allclose(once, table.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("late", [0, 3])
@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_adam_is_torchs_fused_adam_to_the_bit_and_goes_on_from_its_state(
    late: int, device: str
) -> None:
    """`late`: steps until the second table first has a gradient."""
    mine, theirs = (
        [nn.Parameter(one.detach().float().to(device)) for one in tables(30, 7)] for _ in range(2)
    )
    ours, twin = DenseAdam(mine, 0.1), torch.optim.Adam(theirs, lr=0.1, fused=True)
    for step in range(8):
        for first, second in (mine, theirs):
            loss = first.exp().sum() + (second.square().sum() if step >= late else 0)
            loss.backward()
        ours.step()
        twin.step()
        twin.zero_grad()
        for one in mine:
            one.grad = None
        assert all(torch.equal(*pair) for pair in zip(mine, theirs, strict=True))
        if step == 4:
            state = ours.state_dict()
            ours = DenseAdam(mine, 0.1)
            ours.load_state_dict(state)


def test_a_training_does_not_load_torchs_compiler() -> None:
    code = (
        "import sys; from tests.contracts.test_resume import Remembers, trained;"
        "trained(Remembers(), None); sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_lazy_adam_is_torchs_sparse_adam() -> None:
    (mine,), (theirs,) = tables(30), tables(30)
    gradient = keep_gradient(mine)
    ours = LazyAdam([mine], 0.1, eps=1e-12)
    twin = torch.optim.SparseAdam([theirs], lr=0.1, eps=1e-12)
    draw = torch_stream(0, "rows")
    for _ in range(20):
        index = torch.randint(30, (12,), generator=draw)
        lookup(mine, index).pow(2).sum().backward()
        functional.embedding(index, theirs, sparse=True).pow(2).sum().backward()
        ours.step()
        twin.step()
        gradient.clear()
        theirs.grad = None
        assert torch.allclose(mine, theirs, rtol=1e-6)  # they differ in where eps is added


def test_lazy_adam_moves_everything_by_a_dense_gradient() -> None:
    (mine,), (theirs,) = tables(8), tables(8)
    gradient = keep_gradient(mine)
    ours, twin = LazyAdam([mine], 0.1), torch.optim.Adam([theirs], lr=0.1)
    for _ in range(5):
        for table in (mine, theirs):
            table.exp().sum().backward()
        ours.step()
        twin.step()
        gradient.clear()
        theirs.grad = None
        assert torch.allclose(mine, theirs, rtol=1e-10)
    with pytest.raises(TypeError, match="kept"):
        LazyAdam([theirs], 0.1).step()


@pytest.mark.parametrize(
    ("width", "k"),
    [
        (64, 1),
        (64, 64),
        (640, 3),
        (1024, 21),
        (4096, 20),
        (4096, 300),
        (4096, 3),
        (1001, 5),
        (128, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("by_numpy", [True, False])
@pytest.mark.parametrize(("rows", "threads"), [(0, 1), (17, 1), (130, 3)])
def test_top_is_topk(
    width: int, k: int, rows: int, threads: int, *, by_numpy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk, "_NUMPY_IS_FAST", by_numpy)
    monkeypatch.setattr(topk, "_CELLS", 1000)
    draw = torch_stream(0, "table")
    table = torch.randn(rows, 2 * width, generator=draw)[:, width:]
    table[:, -5:] = -torch.inf
    table[3:4] = -torch.inf
    table[4::7] = torch.randint(-2, 2, (width,), generator=draw).float()  # ties
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        values, columns = top(table, k)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(values, table.topk(k).values)
    assert torch.equal(table.gather(1, columns), values)
    assert all(len(set(row)) == k for row in columns.tolist())


def test_top_takes_other_numbers_and_those_with_a_gradient() -> None:
    table = torch.randn(9, 640, generator=torch_stream(0, "table"))
    for one in (table.double(), table.half(), table.clone().requires_grad_()):
        values, columns = top(one, 7)
        assert torch.equal(values, one.topk(7).values)
        assert torch.equal(one.gather(1, columns), values)


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """The p-value, cells with fewer than 20 expected taken together."""
    rare = expected < 20
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    if len(counts) == 1:
        return float(counts[0] == round(expected[0]))
    return float(scipy.stats.chisquare(counts, expected).pvalue)


@pytest.mark.parametrize(("size", "mu"), [(5, 2.0), (40, 20.0), (1000, 20.0)])
def test_ranks_follow_the_exponential_law(size: int, mu: float) -> None:
    ranks = draw_ranks(torch.full((50_000,), size), mu, torch_stream(0, "ranks")).numpy()
    law = np.exp(-np.arange(size) / mu)
    counts = np.bincount(ranks, minlength=size)
    assert len(counts) == size
    assert chi_square(counts, len(ranks) * law / law.sum()) > 1e-3


@pytest.mark.parametrize(
    ("size", "mu"), [(2, 1.0), (4, 2.0), (4, 0.5), (9, 20.0), (60, 20.0), (1000, 20.0), (9, 1e9)]
)
def test_pairs_are_two_independent_ranks_that_differ_in_order(size: int, mu: float) -> None:
    pairs = RankPairs(torch.full((200_000,), size), mu)
    first, second = (ranks.numpy() for ranks in pairs.draw(torch_stream(0, "pairs")))
    assert first.min() >= 0
    assert (first < second).all()
    assert second.max() < size
    law = np.exp(-np.arange(size) / mu)
    joint = np.triu(np.outer(law, law), 1)
    counts = np.bincount(first * size + second, minlength=size * size)
    ordered = joint.ravel() > 0
    assert chi_square(counts[ordered], (len(first) * joint / joint.sum()).ravel()[ordered]) > 1e-3


@pytest.mark.parametrize("n", [1, 7, 500])
def test_first_of_marks_each_id_once(n: int) -> None:
    first = FirstOf(n, torch.device("cpu"))
    generator = torch_stream(0, "ids")
    for length in (1, 20, 300):
        ids = torch.randint(n, (length,), generator=generator)
        seen: set[int] = set()
        expected = [not (one in seen or seen.add(one)) for one in ids.tolist()]
        assert first(ids).tolist() == expected


@pytest.mark.parametrize("length", [3, 40])
def test_rows_that_are_many_are_touched_without_repeats(length: int) -> None:
    table = nn.Parameter(torch.zeros(20, 2))
    kept = keep_gradient(table)
    index = torch.randint(20, (length,), generator=torch_stream(0, "rows"))
    kept.add(index, torch.ones(length, 2))
    assert set(kept.touched().tolist()) == set(index.tolist())
    assert len(kept.touched()) == (length if length < 0.3 * 20 else len(set(index.tolist())))
