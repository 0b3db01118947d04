"""What `kdrec tune` adds to a command line: a space to search, checked as a sweep would be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdrec.cli.line import Line
from kdrec.errors import UsageError

if TYPE_CHECKING:
    from kdrec.cli.overrides import Checked, Checker

COMMAND = "tune"
_SPACE = "tune.space."
_QUOTED = re.compile(r"""'([^'\\]|\\.)*'|"([^"\\]|\\.)*\"""")


def line_of(command: str, words: Sequence[str]) -> Line:
    """The command line, taken apart; for `tune` with its search strings as texts."""
    line = Line.of(words)
    if command == COMMAND:
        line.overrides = [_as_text(word) for word in line.overrides]
    return line


def _as_text(word: str) -> str:
    """`tune.space.K=choice(2,3)` as an override that adds a text.

    To Hydra it would be a sweep of several runs over a key that is not there.
    """
    key, equals, value = word.lstrip("+").partition("=")
    if key == _SPACE.rstrip(".") and value.strip() != "{}":
        raise UsageError(
            f"{word} does not give a space key by key.",
            "Write tune.space.KEY=VALUES for each key, as in tune.space.lr='choice(0.1,0.01)'; "
            "tune.space.KEY=null takes one out.",
        )
    if not equals or not key.startswith(_SPACE):
        return word
    if not _QUOTED.fullmatch(value):
        value = "'" + value.replace("\\'", "'").replace("'", "\\'") + "'"
    return f"++{key}={value}"


def check_space(checker: Checker, checked: Checked) -> None:
    """Holds every value of the space against the config and the signatures, before anything runs.

    Args:
        checker: Of the command line.
        checked: What the line came to.

    Raises:
        UsageError: A key is unknown, or a value (of an interval, an end) is wrong.
    """
    from omegaconf import OmegaConf  # noqa: PLC0415  (`--help` comes by here)

    from kdrec.cli.composed import job_part  # noqa: PLC0415
    from kdrec.tuning.space import FORMS, merged  # noqa: PLC0415

    sweeping = replace(checker, multirun=True)
    for number, job in enumerate(checked.jobs):
        config = checked.config if number == 0 else checker.check(job).config
        content: Any = OmegaConf.to_container(job_part(config), resolve=True)
        lines = []
        for key, text in merged(content).items():
            lines.append(f"{key}={text}")
            try:
                sweeping.parse(lines[-1])
            except UsageError as error:
                raise UsageError(f"tune.space.{key}={text} cannot be read.", FORMS) from error
        try:
            sweeping.check([*job, *lines])
        except UsageError as error:
            raise UsageError(f"tune.space: {error.what}", error.hint) from error
