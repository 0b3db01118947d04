"""Who may import whom: DESIGN's arrows, walked."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kdrec

PACKAGE = Path(kdrec.__file__).parent
BASE = {
    "errors", "digests", "seeding", "progress", "artifacts", "locks", "ranges", "kernels", "trust",
    "hangup",
}  # fmt: skip
CLI = {"__main__", "cli"}
MAY = {
    "errors": set(),
    "digests": set(),
    "trust": {"errors"},
    "seeding": {"errors"},
    "progress": set(),
    "hangup": set(),
    "ranges": {"errors"},
    "kernels": set(),
    "locks": {"errors"},
    "artifacts": {"errors", "digests", "progress", "seeding"},
    "share": {"errors", "digests", "artifacts", "locks"},
    "data": BASE,
    "models": BASE | {"data"},
    "methods": BASE | {"data", "models"},
    "training": BASE | {"data", "models", "methods", "evaluation"},
    "evaluation": BASE | {"data", "models"},
    "report": BASE - {"kernels"} | {"evaluation"},
    "tuning": BASE - {"kernels"},
    "sweeps": BASE - {"kernels"},
    "stages": BASE
    | {"data", "models", "methods", "training", "evaluation", "report", "tuning", "share"},
    **{name: CLI | BASE - {"kernels"} | {"report", "tuning", "sweeps"} for name in CLI},
}
"""Part by part, what else of kdrec it may import; its own part always."""

OUTSIDE = {
    "hydra": CLI | {"stages"},
    "omegaconf": CLI | {"stages"},
    "rich": CLI | {"report"},
    "typer": CLI,
    "optuna": {"tuning"},
}
"""Which parts may import these packages."""


def modules() -> list[Path]:
    return sorted(
        path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" or path.parent != PACKAGE
    )


def part(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(source: str) -> set[str]:
    """The dotted names of everything that is imported anywhere in the source."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def wrong(name: str, source: str) -> list[str]:
    """The imports that a module of this part must not have."""
    bad = []
    for imported in sorted(imports(source)):
        top, *rest = imported.split(".")
        if top in OUTSIDE and name not in OUTSIDE[top]:
            bad.append(imported)
        if top == "kdrec" and rest and rest[0] not in MAY[name] | {name, "__version__"}:
            bad.append(imported)
    return bad


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_arrow_points_the_right_way(path):
    assert wrong(part(path), path.read_text()) == []


def test_every_part_has_its_place():
    assert {part(path) for path in modules()} <= set(MAY)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("data", "from kdrec.models.base import Scorer"),
        ("models", "import kdrec.training.loop"),
        ("training", "def f():\n    from omegaconf import DictConfig"),
        ("methods", "import rich.console"),
        ("report", "from kdrec import stages"),
        ("stages", "from kdrec import cli"),
        ("data", "from kdrec.stages import train"),
    ],
)
def test_a_wrong_arrow_is_seen(name, source):
    assert wrong(name, source) != []


def test_no_module_is_too_long():
    long = {
        str(path.relative_to(PACKAGE)): n
        for path in modules()
        if (n := len(path.read_text().splitlines())) > 300
    }
    assert long == {}
