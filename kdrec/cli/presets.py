"""What the files of `conf/experiment/` choose, read before Hydra composes anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


def choices(name: str, folders: Sequence[Path], above: tuple[str, ...] = ()) -> Iterator[str]:
    """`group=option` for each group that an experiment, or one that it is made of, chooses.

    Args:
        name: Of the experiment; of one that is not there, or cannot be read, nothing is known.
        folders: Config folders, the first wins.
        above: Experiments that are made of this one.
    """
    if name in above:
        return
    for entry in _content(name, folders).get("defaults") or []:
        if isinstance(entry, str):
            yield from choices(entry, folders, (*above, name))
        elif isinstance(entry, dict):
            for group, option in entry.items():
                yield f"{str(group).removeprefix('override ').lstrip('/')}={option}"


def sweeps(name: str, folders: Sequence[Path], above: tuple[str, ...] = ()) -> bool:
    """Whether an experiment asks for a sweep (`hydra.mode`), or one that it is made of does.

    Args:
        name: Of the experiment; one that is not there, or cannot be read, asks for nothing.
        folders: Config folders, the first wins.
        above: Experiments that are made of this one.
    """
    if name in above:
        return False
    content = _content(name, folders)
    hydra = content.get("hydra")
    mode = hydra.get("mode") if isinstance(hydra, dict) else None
    if mode is not None:
        return bool(mode == "MULTIRUN")
    bases = [entry for entry in content.get("defaults") or [] if isinstance(entry, str)]
    return any(sweeps(base, folders, (*above, name)) for base in bases)


def _content(name: str, folders: Sequence[Path]) -> dict[str, Any]:
    """What an experiment's file says; nothing if it is not there or cannot be read."""
    from omegaconf import OmegaConf  # noqa: PLC0415  (`--help` comes by here)

    files = (folder / "experiment" / f"{name}.yaml" for folder in folders)
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        return {}
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception:  # noqa: BLE001  (Hydra says what is wrong with it, and where)
        return {}
    return content if isinstance(content, dict) else {}


def named(overrides: Iterable[str]) -> list[str]:
    """The experiments that a command line names, in a sweep or by themselves."""
    values = (word.partition("=")[2] for word in overrides
              if word.lstrip("+").startswith("experiment="))  # fmt: skip
    return [name.strip() for value in values for name in value.strip("[]").split(",")]
