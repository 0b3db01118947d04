"""Which checkpoint of each teacher a user is at, and when the user moves on: HetComp's."""

from __future__ import annotations

import torch
from torch import Tensor


class Curriculum:
    """Every user's place in every teacher's trajectory.

    All start at the first checkpoint. The distance of the student to a list is `1 - NDCG` of the
    student's list with gains `2^exp(-t/10) - 1` for an item at place t, from 0. Let `d_0` be the
    distance to the next checkpoint's list when the user came to the present one, and `d` the
    distance now. At the k-th look, the first of which only notes `d_0`, the user moves on if

        `d_0 / d > alpha * shrink^k`  or  `d_0 / d < 1`,

    that is if the student has come nearer, or cannot; with `d = 0` too. The bound falls below 1 in
    the end, when all move.

    Args:
        lists: Of each teacher and checkpoint, best first, -1 beyond the end. Shape
            [n_users, n_teachers, n_checkpoints, depth].
        ends: The last checkpoint of each teacher. Shape [n_teachers], int64.
        alpha: See above.
        shrink: See above.
        gain: "teacher": t is the place in the teacher's list; "student": in the student's.
        batch_size: Users whose lists are compared at once.
    """

    def __init__(
        self,
        lists: Tensor,
        ends: Tensor,
        *,
        alpha: float,
        shrink: float,
        gain: str,
        batch_size: int,
    ) -> None:
        self.lists, self.ends, self.alpha, self.shrink = lists, ends, alpha, shrink
        self.by_teacher, self.batch_size = gain == "teacher", batch_size
        #: Checkpoint of each user and teacher. Shape [n_users, n_teachers], int64.
        self.place = torch.zeros(lists.shape[:2], dtype=torch.int64, device=lists.device)
        self.before: Tensor | None = None

    def look(self, ranked: Tensor, k: int) -> None:
        """Moves users on.

        Args:
            ranked: The student's lists, -1 beyond the end. Shape [n_users, n].
            k: How many looks there were, this one counted.
        """
        now = self._distance(ranked, self.place + 1)
        if self.before is None:
            self.before = now
            return
        bound = self.alpha * self.shrink**k
        moves = (self.before > bound * now) | (self.before < now) | (now <= 0)
        moves &= self.place < self.ends
        self.place += moves
        self.before = torch.where(moves, self._distance(ranked, self.place + 1), self.before)

    def share_done(self) -> float:
        """Steps taken, of all that users can take."""
        steps = int(self.ends.sum()) * len(self.place)
        return float(self.place.sum()) / steps if steps else 1.0

    def _distance(self, ranked: Tensor, checkpoints: Tensor) -> Tensor:
        """Of the student to a checkpoint's list, or the last one's. Shape [n_users, n_teachers]."""
        checkpoints = torch.minimum(checkpoints, self.ends)
        parts = []
        for first in range(0, len(ranked), self.batch_size):
            rows = slice(first, first + self.batch_size)
            chosen = chosen_lists(self.lists[rows], checkpoints[rows])
            near = [self._ndcg(ranked[rows], theirs) for theirs in chosen.unbind(1)]
            parts.append(1 - torch.stack(near, dim=1))
        return torch.cat(parts)

    def _ndcg(self, mine: Tensor, theirs: Tensor) -> Tensor:
        """[B, n] and [B, depth] lists to [B]."""
        hits = (mine.unsqueeze(2) == theirs.unsqueeze(1)) & (mine >= 0).unsqueeze(2)
        places = torch.arange(max(mine.shape[1], theirs.shape[1]), device=mine.device).float()
        gain = torch.exp2(torch.exp(-places / 10)) - 1
        discount = 1 / torch.log2(places + 2)
        if self.by_teacher:
            gained = (hits * gain[: theirs.shape[1]]).sum(2)
        else:
            gained = hits.any(2) * gain[: mine.shape[1]]
        best = ((theirs >= 0) * (gain * discount)[: theirs.shape[1]]).sum(1)
        found = (gained * discount[: mine.shape[1]]).sum(1)
        return torch.where(best > 0, found / best, 1.0)


def chosen_lists(lists: Tensor, checkpoints: Tensor) -> Tensor:
    """The list of each teacher at its checkpoint.

    Args:
        lists: [B, n_teachers, n_checkpoints, n].
        checkpoints: [B, n_teachers], int64.

    Returns:
        [B, n_teachers, n].
    """
    place = checkpoints[:, :, None, None].expand(-1, -1, 1, lists.shape[3])
    return lists.gather(2, place).squeeze(2)
