"""Messages for what a config does not have, with the nearest that it has."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrec.cli.composed import choices, dotted, look_up, plain
from kdrec.cli.values import nearest
from kdrec.errors import UsageError


def malformed(line: str, owners: Sequence[str]) -> UsageError:
    """For an override that cannot be read; `owners` are the groups with an option of that name."""
    name, equals, value = line.partition("=")
    if not equals:
        meant = " or ".join(f"{group}={line}" for group in owners)
        hint = f"Did you mean {meant}?" if owners else "An override is key=value."
        return UsageError(f"{line!r} is not an override.", hint)
    return UsageError(
        f"{line!r} is not an override that can be read.",
        f"An override is key=value; quote a value with spaces or any of ,:()[]{{}}=: "
        f"{name}=\"'{value}'\"",
    )


def key(
    name: str, reference: DictConfig, command: str, loader: ConfigLoader, config_name: str
) -> UsageError:
    """For a key that the composed config `reference` does not have."""
    owners: dict[str, list[str]] = {}
    for group in choices(reference):
        having = [
            option
            for option in loader.get_group_options(group, config_name=config_name)
            if _defines(loader, group, option, name)
        ]
        if having:
            owners[group] = [f"{group}={option}" for option in having]
    if owners:
        chosen = " ".join(f"{group}={choices(reference)[group]}" for group in owners)
        having = [line for lines in owners.values() for line in lines]
        return UsageError(f"{name} does not go with {chosen}.", f"It goes with {_any(having)}.")
    close = closest(name, [*choices(reference), *dotted(plain(reference))])
    hint = f"Did you mean {_any(close)}? " if close else ""
    return UsageError(
        f"{command} has no key {name!r}.", f"{hint}All keys are shown by: {command} --cfg job"
    )


def closest(name: str, keys: Sequence[str]) -> list[str]:
    """The keys most like `name`: as a whole, then those that end like it, then nearly so."""
    ends: dict[str, list[str]] = {}
    for known in keys:
        ends.setdefault(known.rpartition(".")[2], []).append(known)
    leaf = name.rpartition(".")[2]
    found = [*nearest(name, keys), *ends.get(leaf, [])]
    if not found:
        found = [known for end in nearest(leaf, ends) for known in ends[end]]
    return list(dict.fromkeys(found))[:3]


def _any(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _defines(loader: ConfigLoader, group: str, option: str, name: str) -> bool:
    """Whether choosing this option of this group would bring the key."""
    loaded = _file(loader, f"{group}/{option}")
    if loaded is None:
        return False
    package = loaded.header.get("package")
    if package is None:
        package = group.replace("/", ".")
    prefix = "" if package in {"", "_global_"} else f"{package}."
    return name.startswith(prefix) and _has(loader, f"{group}/{option}", name.removeprefix(prefix))


def _has(loader: ConfigLoader, path: str, name: str) -> bool:
    """Whether a config file, or one that it is built on, has the key."""
    loaded = _file(loader, path)
    if loaded is None:
        return False
    if look_up(OmegaConf.to_container(loaded.config, resolve=False), name)[0]:
        return True
    folder = path.rpartition("/")[0]
    below = [default.path for default in loaded.defaults_list or [] if hasattr(default, "path")]
    return any(
        _has(loader, other[1:] if other.startswith("/") else f"{folder}/{other}", name)
        for other in below
        if other not in {None, "_self_"}
    )


def _file(loader: ConfigLoader, path: str) -> ConfigResult | None:
    repository = getattr(loader, "repository", None)
    try:
        loaded = repository.load_config(path) if repository is not None else None
    except (HydraException, OmegaConfBaseException, OSError):
        return None
    return loaded if loaded is not None and isinstance(loaded.config, DictConfig) else None
