"""Holds a composed config, Hydra's own node included, against what may be called.

Under `hydra` these are trusted: Hydra's own launchers and sweepers and those of installed plugins,
without the keys by which a launcher runs commands; Python's and kdrec's log handlers; config
folders, and packages of configs of Hydra and kdrec. See `kdrec.trust` for everything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrec import trust
from kdrec.trust import foreign

_PLUGINS = re.compile(
    r"hydra\._internal\.core_plugins\.\w+\.\w+|hydra_plugins(\.[a-z]\w*)+\.[A-Z]\w*"
    r"|hydra\.experimental\.callbacks\.LogJobReturnCallback",
    re.ASCII,
)
_COMMANDS = ("setup", "python", "srun_args", "additional_parameters", "runtime_env",
             "custom_search_space")  # fmt: skip
_HANDLERS = frozenset(
    {
        *(f"logging.{name}" for name in ("StreamHandler", "FileHandler", "NullHandler")),
        *(f"logging.handlers.{name}" for name in ("RotatingFileHandler", "TimedRotatingFileHandler",
                                                  "WatchedFileHandler")),
        "logging.Formatter",
        "colorlog.ColoredFormatter",
        "kdrec.cli.console.StderrHandler",
    }
)  # fmt: skip
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_VARIABLES = re.compile(
    r"KDREC_\w+|(OMP|MKL|OPENBLAS|NUMEXPR)_NUM_THREADS|CUDA_VISIBLE_DEVICES"
    r"|CUBLAS_WORKSPACE_CONFIG|PYTHONHASHSEED"
)
_SOURCES = re.compile(r"(file://)?(?!\w+://).*|(pkg|structured)://((hydra|kdrec)([./].*)?)?")
_MADE = re.compile(r"\$\{\s*oc\.(create|decode)\b")


def check(config: DictConfig) -> None:
    """Refuses a config that would run code of others, unless the command line allows it.

    Nothing is imported. What interpolations come to is looked at, too; what they come to later is
    held against the same rule where a stage makes an object of it.

    Raises:
        UsageError: Names the key, the value and the option.
    """
    if trust.allowed():
        return
    raw: Any = OmegaConf.to_container(config, resolve=False)
    content = {str(key): value for key, value in raw.items()}
    hydra = content.pop("hydra", None) or {}
    for key, text in _pairs(raw, ""):
        if isinstance(text, str) and _MADE.search(text):
            raise foreign(key, text, "makes config of text, which can name any code")
    trust.check(content)
    _check_hydra(hydra)
    for name in content:
        trust.check(_resolved(config, name), name)
    for part in ("launcher", "sweeper", "callbacks"):
        _check_plugins(_resolved(config, f"hydra.{part}"), f"hydra.{part}")


def _resolved(config: DictConfig, key: str) -> object:
    """What is below a key, its interpolations resolved; None if they cannot be yet."""
    try:
        value = OmegaConf.select(config, key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else None
    except OmegaConfBaseException:
        return None  # which is said where it is needed


def _check_plugins(node: object, path: str) -> None:
    for key, target in trust.targets(node, path):
        if not (isinstance(target, str) and _PLUGINS.fullmatch(target)):
            raise foreign(key, target, "is no launcher, sweeper or callback of Hydra or a plugin")


def _check_hydra(hydra: Mapping[str, Any]) -> None:
    _check_plugins(hydra, "hydra")
    for part in ("launcher", "sweeper"):
        for key, value in _pairs(hydra.get(part), f"hydra.{part}"):
            if key.rpartition(".")[2] in _COMMANDS and value not in (None, [], {}, ""):
                raise foreign(key, value, "can run commands")
    for part in ("job_logging", "hydra_logging"):
        _check_logging(hydra.get(part), f"hydra.{part}")
    job = hydra.get("job") or {}
    for kind in ("env_set", "env_copy"):
        for name in job.get(kind) or ():
            if not _VARIABLES.fullmatch(str(name)):
                raise foreign(f"hydra.job.{kind}", name, "can change which programs are run")
    check_sources(hydra.get("searchpath"))


def _check_logging(node: object, path: str) -> None:
    if node is None:
        return
    for section in ("formatters", "filters", "handlers", "loggers"):
        inner = node.get(section) or {} if isinstance(node, dict) else None
        for name, entry in (inner if isinstance(inner, dict) else {"": inner}).items():
            if not isinstance(entry, dict):
                raise foreign(f"{path}.{section}", entry or node, "is not written out")
            for key, value in _pairs(entry, f"{path}.{section}.{name}"):
                _check_entry(key, value)


def _check_entry(key: str, value: object) -> None:
    """One key of a log handler or formatter, which Python's logging would look up and call."""
    last = key.rpartition(".")[2]
    if last in ("()", "class", "listener", "queue", "factory") and value not in _HANDLERS:
        raise foreign(key, value, "is none of Python's or kdrec's log handlers")
    if not isinstance(value, str):
        return
    if re.match(r"\w+://", value) and value not in _STREAMS:
        raise foreign(key, value, "looks up a name in a module")
    if "${" in value and not value.startswith(("${hydra.runtime.", "/", "./")):
        raise foreign(key, value, "must begin with / or ./ if it is filled in later")


def check_sources(paths: object) -> None:
    """Refuses places of configs that are packages: to look into one imports it.

    Raises:
        UsageError: If one is neither a folder nor a package of Hydra or kdrec.
    """
    if trust.allowed() or not isinstance(paths, Sequence):
        return
    for path in [paths] if isinstance(paths, str) else paths:
        if not _SOURCES.fullmatch(str(path)):
            raise foreign("hydra.searchpath", path, "is a package, which is imported")


def check_search_path(loader: ConfigLoader, name: str, overrides: Sequence[str]) -> None:
    """Looks at `hydra.searchpath` of a primary config and a line, before anything is composed.

    Raises:
        UsageError: See `check_sources`.
    """
    for line in overrides:
        try:
            (override,) = OverridesParser.create().parse_overrides([line])
        except HydraException:
            continue  # it is refused as a whole later
        if override.key_or_group == "hydra.searchpath":
            check_sources(override.value())
    repository = getattr(loader, "repository", None)
    try:
        found = repository.load_config(name) if repository is not None else None
    except (HydraException, OmegaConfBaseException, OSError):
        return  # Hydra says what is wrong with it
    if found is not None and isinstance(found.config, DictConfig):
        raw: Any = OmegaConf.to_container(found.config, resolve=False)
        for node in (raw, raw.get("hydra")):
            for key in ("searchpath", "hydra.searchpath"):
                check_sources(node.get(key) if isinstance(node, dict) else None)


def _pairs(content: object, path: str) -> Iterator[tuple[str, object]]:
    """Every key of a plain container with what stands there, containers included."""
    items: Sequence[tuple[object, object]] = ()
    if isinstance(content, dict):
        items = list(content.items())
    elif isinstance(content, list):
        items = list(enumerate(content))
    for key, value in items:
        inner = f"{path}.{key}" if path else str(key)
        yield inner, value
        yield from _pairs(value, inner)
