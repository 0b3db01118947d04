"""What a config may call without being asked: kdrec's own building blocks, and nothing else.

A `_target_` is a dotted path that is imported and called. Somebody else's config could name any
function of any installed package, so that reading it would be running it. Trusted is what is
defined, as a class or a function with a public name, at the top of one of these files of kdrec
itself; that is read from the file's source, so that no path leads through a module's imports
elsewhere and nothing is imported to find out:

- `kdrec/data/*.py`: `read` alone; `kdrec/data/splits.py`: everything
- `kdrec/models/*.py`, `kdrec/methods/*.py`, `kdrec/training/*.py`, `kdrec/evaluation/*.py`

None of these writes files, starts programs or imports by name. Anything else needs
`allow_code=true` on the command line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from kdrec.errors import UsageError

OPTION = "allow_code"
TARGET = "_target_"

#: Forms of trusted paths; the tests add their own.
MEANT = (
    r"kdrec\.data\.[a-z]\w*\.read",
    r"kdrec\.data\.splits\.[a-z]\w*",
    r"kdrec\.(models|methods|training|evaluation)\.[a-z]\w*\.[A-Za-z]\w*",
)
_allowed: ContextVar[bool] = ContextVar("allowed", default=False)


@contextmanager
def allowing(allowed: bool) -> Iterator[None]:  # noqa: FBT001  (allowing(line.allow_code))
    """Whether code of others may be called in this block, in this thread."""
    token = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(token)


def allowed() -> bool:
    """Whether the command line had `allow_code=true`."""
    return _allowed.get()


def is_trusted(target: object) -> bool:
    """Whether a target is one of kdrec's own building blocks."""
    if not isinstance(target, str):
        return False
    if not any(re.fullmatch(form, target, re.ASCII) for form in MEANT):
        return False
    package, _, rest = target.partition(".")
    if package != "kdrec":
        return True  # a form that a test has added
    *parts, name = rest.split(".")
    return name in _defined(Path(__file__).parent.joinpath(*parts).with_suffix(".py"))


@cache
def _defined(file: Path) -> frozenset[str]:
    """The names of the classes and functions that stand at the top of a file."""
    if not file.is_file():
        return frozenset()
    kinds = (ast.ClassDef, ast.FunctionDef)
    return frozenset(
        node.name for node in ast.parse(file.read_bytes()).body if isinstance(node, kinds)
    )


def check(content: object, path: str = "") -> None:
    """Refuses a plain container with a target that is not trusted, unless the line allows code.

    Args:
        content: Dicts and lists, as YAML has them.
        path: The dotted key of the container, for the message.

    Raises:
        UsageError: Names the key, the target and the option.
    """
    if allowed():
        return
    for key, target in targets(content, path):
        if not is_trusted(target):
            raise foreign(key, target)


def targets(content: object, path: str = "") -> Iterator[tuple[str, object]]:
    """The key and value of every `_target_` in a plain container."""
    if isinstance(content, dict):
        for key, child in content.items():
            inner = f"{path}.{key}" if path else str(key)
            if key == TARGET:
                yield inner, child
            else:
                yield from targets(child, inner)
    elif isinstance(content, list):
        for place, child in enumerate(content):
            yield from targets(child, f"{path}[{place}]")


def foreign(key: str, value: object, why: str = "") -> UsageError:
    """The refusal of what a config would have run."""
    return UsageError(
        f"{key}={value} {why or 'is code that is none of the building blocks of kdrec'}.",
        f"If you trust the code and the config that names it: {OPTION}=true on the command line "
        "(in a file it does not count).",
    )
