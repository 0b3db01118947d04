"""A command line, taken apart into Hydra's flags and the overrides.

Hydra 1.3 reads `K=2 -m seed=0,1` as a mistake: its flags must stand together. Here they may
stand anywhere, and are handed on in front. A list of teachers is written as Hydra can take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kdrec.cli.ensembles import rewritten
from kdrec.cli.values import nearest
from kdrec.errors import UsageError
from kdrec.trust import OPTION

SWITCHES = frozenset({"--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"})
VALUED = {
    "--cfg": "--cfg",
    "-c": "--cfg",
    "--package": "--package",
    "-p": "--package",
    "--config-path": "--config-path",
    "-cp": "--config-path",
    "--config-name": "--config-name",
    "-cn": "--config-name",
    "--config-dir": "--config-dir",
    "-cd": "--config-dir",
}
RERUN = "--experimental-rerun"
"""Hydra's flag that unpickles a file: it is not passed on."""
INFO = frozenset({"--info", "-i"})
INFO_CHOICES = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


@dataclass
class Line:
    """A command line, taken apart: Hydra's flags and the overrides."""

    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, words: Sequence[str]) -> Line:
        """Takes the words apart; flags may stand anywhere.

        Raises:
            UsageError: An unknown flag, or one without its value.
        """
        line, rest = cls(), list(words)
        while rest:
            line._take(rest)
        return line

    @property
    def multirun(self) -> bool:
        """Whether a comma means several runs."""
        return bool({"-m", "--multirun"} & set(self.flags)) or "hydra.mode=MULTIRUN" in (
            self.overrides
        )

    @property
    def allows_code(self) -> bool:
        """Whether the line itself has `allow_code=true`; the last word on it counts."""
        given = [word.lstrip("+").partition("=")[::2] for word in self.overrides]
        said = [value.strip().lower() for key, value in given if key == OPTION]
        return bool(said) and said[-1] == "true"

    @property
    def runs(self) -> bool:
        """Whether something is to run, and not only to be shown."""
        shows = {"--cfg", "--info", "--hydra-help", "--version"}
        return not shows & {flag.partition("=")[0] for flag in self.flags}

    def _take(self, rest: list[str]) -> None:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            self.overrides.append(rewritten(word))
        elif word in SWITCHES:
            self.flags.append(word)
            if word in ("-r", "--run"):  # over what a preset says
                self.overrides.append("hydra.mode=RUN")
        elif name == RERUN:
            raise UsageError(
                f"{RERUN} would unpickle a file, which can run any code.",
                "The overrides of a run are in its manifest.json; give them again.",
            )
        elif name in INFO:
            if not equals:
                value = rest.pop(0) if rest and rest[0] in INFO_CHOICES else "all"
            self.flags.append(f"--info={value}")
        elif name in VALUED:
            if not equals and not rest:
                raise UsageError(f"{name} needs a value.", "See --help.")
            value = value if equals else rest.pop(0)
            if "://" in value and not value.startswith("file://"):
                raise UsageError(f"{name} {value} is no folder.", "Give a folder of config files.")
            self.values[VALUED[name]] = value
            self.flags.append(f"{VALUED[name]}={value}")
        else:
            close = nearest(name, [*SWITCHES, *VALUED, "--info", "--dry-run", "--json", "--debug"])
            hint = f"Did you mean {close[0]}? " if close else ""
            raise UsageError(f"There is no option {name}.", f"{hint}See --help.")
