"""`teacher=[lightgcn,bprmf]`: a list of models, made into one config of Hydra's.

Hydra takes a list of options of a group for one config merged from all of them. Here it becomes the
option `bprmf+lightgcn`, the names sorted, which is put into the ConfigStore when a command line or
its experiment names it: each model under `teacher.members`, as `teacher=NAME` has it, and the key
`ensemble`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from kdrec.cli.values import did_you_mean
from kdrec.errors import UsageError

ROLE = "teacher"
TARGET = "kdrec.models.ensemble.Ensemble"

_LIST = re.compile(r"\[([^\[\]]*)\]")
_NAME = re.compile(r"[\w.-]+(?:\+[\w.-]+)+")


def rewritten(override: str) -> str:
    """The override with every list of teachers as `a+b`, sorted; any other as it is.

    Raises:
        UsageError: A list without a name or with one twice, or one of students.
    """
    key, equals, value = override.partition("=")
    if key == "student" and value.lstrip("'\"").startswith("["):
        raise UsageError(f"{override}: a student is one model.", "Only teacher= takes several.")
    if key != ROLE:
        return override
    value = _LIST.sub(lambda found: "+".join(_names(override, found[1].split(","))), value)
    value = _NAME.sub(lambda found: "+".join(sorted(_names(override, found[0].split("+")))), value)
    return f"{key}{equals}{value}"


def _names(override: str, parts: Iterable[str]) -> list[str]:
    names = [part.strip().strip("'\"") for part in parts]
    if "" in names:
        raise UsageError(f"{override} lacks a name.", "Write it as teacher=[lightgcn,bprmf].")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{override} has {twice} twice.", "A model is a member once.")
    return names


def named(overrides: Iterable[str]) -> list[str]:
    """The ensembles that the overrides name, in a sweep or by themselves."""
    values = (line.partition("=")[2] for line in overrides if line.startswith(f"{ROLE}="))
    return list(dict.fromkeys(name for value in values for name in _NAME.findall(value)))


def store(names: Iterable[str], folders: Iterable[Path]) -> None:
    """Puts ensembles into the ConfigStore; call it after `confdir.register_roles`.

    Args:
        names: Such as `bprmf+lightgcn`.
        folders: Config folders, for files of the user's own in `teacher/`.

    Raises:
        UsageError: If a member is no teacher.
    """
    from hydra.core.config_store import ConfigStore  # noqa: PLC0415  (`--help` comes by here)

    at = ConfigStore.instance()
    known = {name.removesuffix(".yaml") for name in at.list(ROLE)} if ROLE in at.repo else set()
    known |= {path.stem for folder in folders for path in (folder / ROLE).glob("*.yaml")}
    for name in names:
        if name in known:
            continue
        members = name.split("+")
        for member in members:
            if member not in known:
                raise UsageError(
                    f"There is no {ROLE} {member!r}.",
                    did_you_mean(member, sorted(known), f"{ROLE} is one of"),
                )
        node = {
            "defaults": [
                *(f"/{ROLE}/{member}@{ROLE}.members.{member}" for member in members),
                "_self_",
            ],
            "ensemble": "score",
            ROLE: {
                "_target_": TARGET,
                "_partial_": True,
                "_convert_": "all",
                "ensemble": "${ensemble}",
            },
        }
        at.store(group=ROLE, name=name, node=node, package="_global_", provider="kdrec")
