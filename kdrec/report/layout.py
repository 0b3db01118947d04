"""Which columns the tables of a block have: those for which its runs have values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdrec.evaluation.part import COLD
from kdrec.report.compare import Column
from kdrec.report.entries import Block, Key, judged_by


@dataclass(frozen=True, slots=True)
class Layout:
    """The values that a block's runs have.

    Args:
        keys: Their keys, in the order in which evaluation wrote them.
        cutoff: Length of the lists.
    """

    keys: Sequence[Key]
    cutoff: int

    @classmethod
    def of(cls, block: Block, cutoff: int) -> Layout:
        """Of all runs of a block."""
        keys = {key: None for entry in block.entries for run in entry.runs for key in run.metrics}
        return cls(list(keys), cutoff)

    def metrics(self) -> list[str]:
        """Accuracy metrics at the cut-off, such as `recall@10`."""
        end = f"@{self.cutoff}"
        return [key[4] for key in self.keys if key[:2] == ("test", "all") and key[4].endswith(end)]

    def leading(self) -> list[str]:
        """The one or two metrics that grouped tables show: recall and NDCG where they exist."""
        names = self.metrics()
        chosen = [f"{name}@{self.cutoff}" for name in ("recall", "ndcg")]
        return [name for name in chosen if name in names] or names[:1]

    def seen_groups(self, target: str = "test") -> list[str]:
        """Item groups without the cold one, which few users have an item of."""
        return [group for group in self.groups("items", target) if group != COLD]

    def groups(self, scope: str, target: str = "test") -> list[str]:
        """Groups of a scope, in order."""
        found = {key[2]: None for key in self.keys if key[0] == target and key[1] == scope}
        return list(found)

    def _known(self, columns: Sequence[Column]) -> list[Column]:
        return [column for column in columns if column.key in set(self.keys)]

    def overall(self) -> list[Column]:
        """All metrics on the test set, and what validation said."""
        columns = [Column(name, ("test", "all", "all", "", name)) for name in self.metrics()]
        seen = [key for key in self.keys if key[:2] == ("valid", "all")]
        seen.sort(key=judged_by)
        return columns + [Column(f"valid {key[4]}", key, ranked=False) for key in seen[:1]]

    def item_groups(self, form: str) -> list[Column]:
        """Item groups side by side, metric after metric."""
        return self._known(
            [
                Column(f"{name} {group}", ("test", "items", group, form, name))
                for name in self.leading()
                for group in self.groups("items")
            ]
        )

    def eligible_users(self, block: Block) -> str:
        """How many users have a test item in each group, of the first run."""
        users = block.entries[0].runs[0].users
        counts = [
            f"{column.key[2]} {users[column.key]:,}"
            for column in self.item_groups("eligible")
            if column.key in users and column.key[4] == self.leading()[0]
        ]
        return f"Such users: {', '.join(counts)}."

    def user_groups(self, scope: str) -> list[Column]:
        """Bins side by side, for the first of the leading metrics."""
        return self._known(
            [
                Column(f"{name} {group}", ("test", scope, group, "", name))
                for name in self.leading()[:1]
                for group in self.groups(scope)
            ]
        )

    def exposure(self) -> list[Column]:
        """Exposure of each group, then what else the lists are made of."""
        k = self.cutoff
        columns = [
            Column(group, ("test", "beyond", group, "", f"exposure@{k}"), "share", ranked=False)
            for group in self.groups("items")
        ]
        for title, metric, kind in (
            ("popularity", "avg_popularity", "number"),
            ("long tail", "long_tail", "share"),
            ("coverage", "coverage", "share"),
            ("Gini", "gini", "score"),
        ):
            key = ("test", "beyond", "all", "", f"{metric}@{k}")
            columns.append(Column(title, key, kind, ranked=False))
        return self._known(columns)

    def unbiased(self) -> list[Column]:
        """Observed and unbiased values in turn; empty without an unbiased test set."""
        if not self.groups("all", "unbiased"):
            return []
        columns = []
        for name in self.leading():
            for target, word in (("test", "observed"), ("unbiased", "unbiased")):
                columns.append(Column(f"{name} {word}", (target, "all", "all", "", name)))
        for name in self.leading()[:1]:
            for group in self.seen_groups("unbiased"):
                for target, word in (("test", "observed"), ("unbiased", "unbiased")):
                    key = (target, "items", group, "eligible", name)
                    columns.append(Column(f"{name} {group} {word}", key))
        return self._known(columns)

    def headline(self) -> list[Column]:
        """The leading metrics overall, and the first of them in each item group."""
        columns = [Column(name, ("test", "all", "all", "", name)) for name in self.leading()]
        columns += [
            Column(f"{name} {group}", ("test", "items", group, "eligible", name))
            for name in self.leading()[:1]
            for group in self.seen_groups()
        ]
        return self._known(columns)
