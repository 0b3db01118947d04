"""Completion in the shell: command names here, groups and keys from Hydra.

`eval "$(kdrec -sc install=bash)"` installs Hydra's shell function, which calls
`kdrec -sc query=bash` with the line so far in `COMP_LINE`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from kdrec.cli import confdir, ensembles, listing, manual

FLAGS = ("-sc", "--shell-completion")
OWN = ("--json", "--quiet", "--verbose", "--dry-run", "--debug", "--help")
HYDRA = ("--multirun", "--cfg", "--package", "--resolve", "--config-dir", "--config-name", "--info")
OPTIONS = {
    "report": (
        "--experiment",
        "--config-dir",
        "--dataset",
        "--cutoff",
        "--output-dir",
        "--out",
        "--json",
        "--seed",
        "--n-boot",
    ),
    "list": ("--config-dir", "--json"),
}
COMMANDS = (*manual.PAGES, "report", "list")
CFG = ("job", "hydra", "all")


def wanted(words: Sequence[str]) -> bool:
    """Whether a command line asks for completion."""
    return bool(words) and words[0] in FLAGS


def run(words: Sequence[str]) -> None:
    """Answers `-sc install=SHELL`, `-sc uninstall=SHELL` and `-sc query=SHELL`."""
    ask = words[1] if len(words) > 1 else ""
    if not ask.startswith("query="):
        _hydra(words, COMMANDS[0])
        return
    before, word = split(os.environ.get("COMP_LINE", ""))
    found = candidates(before, word)
    if found is not None:
        sys.stdout.write(("\n" if ask.endswith("fish") else " ").join(found) + "\n")
        return
    with contextlib.suppress(Exception):  # nothing to offer is better than noise in the prompt
        _check_folders(before)
        done = [ensembles.rewritten(override) for override in without_flags(before[1:])]
        os.environ["COMP_LINE"] = " ".join(["kdrec", *done, word])
        _hydra(words, before[0], flag_value(before, ("--config-dir", "-cd")), done)


def _check_folders(before: Sequence[str]) -> None:
    """Refuses what would import code for a completion; the plain line costs nothing."""
    if any("config-dir" in word or word == "-cd" or "searchpath" in word for word in before):
        from kdrec.cli.forward import checking  # noqa: PLC0415
        from kdrec.cli.line import Line  # noqa: PLC0415

        with checking(before[0], Line.of(before[1:])):
            pass


def _hydra(
    words: Sequence[str],
    command: str,
    config_dir: str | None = None,
    overrides: Sequence[str] = (),
) -> None:
    """Lets Hydra answer."""
    import hydra  # noqa: PLC0415  (command names are completed without it)

    from kdrec.cli import launch  # noqa: PLC0415

    os.environ["HYDRA_FULL_ERROR"] = "1"
    folders = confdir.user_folders(None, config_dir)
    confdir.register(folders)
    ensembles.store(ensembles.named(overrides), folders)
    launch.register()
    main = hydra.main(version_base="1.3", config_path=str(confdir.conf_dir()), config_name=command)
    folder = ["--config-dir", config_dir] if config_dir else []
    sys.argv = ["kdrec", *folder, *words]
    main(_nothing)()


def _nothing(config: object) -> None:
    """Stands for the stage: Hydra wants a task even where it runs none."""


def split(line: str) -> tuple[list[str], str]:
    """The finished words of a line after the program's name, and the word under way."""
    words = line.split(" ")
    done = [word for word in words[1:-1] if word]
    return done, words[-1] if len(words) > 1 else ""


def candidates(before: Sequence[str], word: str) -> list[str] | None:
    """What may follow, or None where Hydra knows it."""
    if not before:
        names: Sequence[str] = (*COMMANDS, "--help", "--version")
    elif before[0] in manual.PAGES:
        if before[-1] in {"--cfg", "-c"}:
            names = CFG
        elif word.startswith("-"):
            names = (*OWN, *HYDRA)
        else:
            return None
    elif before[0] == "list" and not word.startswith("-"):
        names = tuple(listing.KINDS) if len(before) == 1 else ()
    else:
        names = (*OPTIONS.get(before[0], ()), "--help")
    return [name for name in names if name.startswith(word)]


def flag_value(words: Sequence[str], names: Sequence[str]) -> str | None:
    """The value of a flag, given as `--flag value` or `--flag=value`."""
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else next(iter(words[place + 1 :]), None)
    return None


def without_flags(words: Sequence[str]) -> list[str]:
    """The overrides of a line; a flag's value that stands by itself goes with it."""
    from kdrec.cli.line import VALUED  # noqa: PLC0415

    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in VALUED
        else:
            kept.append(word)
    return kept
