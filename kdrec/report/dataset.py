"""A data set's statistics, as in the second table of the UnKD paper and somewhat more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from kdrec.report.render import say

_WORDS = {
    "users": "users",
    "items": "items",
    "interactions": "interactions",
    "density": "density",
    "train": "training pairs",
    "valid": "validation pairs",
    "test": "test pairs",
    "unbiased": "unbiased test pairs",
    "users_with_test": "users with a test item",
    "items_without_training": "items never seen in training",
    "mean_per_user": "mean a user",
    "median_per_user": "median a user",
    "mean_per_item": "mean an item",
    "median_per_item": "median an item",
    "gini_users": "Gini of users' counts",
    "gini_items": "Gini of items' counts",
    "share_of_top_1_percent_items": "share of the top 1 % of items",
    "share_of_top_10_percent_items": "share of the top 10 % of items",
}
_SHARES = ("density", "share_of_top_1_percent_items", "share_of_top_10_percent_items")


def show_statistics(stats: Mapping[str, Any], title: str, out: Console) -> None:
    """Prints the statistics that the data set has, and what the filters dropped."""
    say(title, out, "bold")
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("", justify="right")
    for key, word in _WORDS.items():
        if key in stats:
            table.add_row(word, _number(key, stats[key]))
    for why, count in stats.get("dropped", {}).items():
        if count:
            table.add_row(f"dropped: {why}", f"{count:,}")
    out.print(table)


def _number(key: str, value: float) -> str:
    if key in _SHARES:
        return f"{100 * value:.3g} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
