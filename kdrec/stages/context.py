"""What every stage takes from the configuration before the configuration ends."""

from __future__ import annotations

import logging
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import kdrec
from kdrec.artifacts import Run, new_run_folder, write_manifest
from kdrec.errors import UsageError
from kdrec.share.store import Share
from kdrec.stages.folders import claim
from kdrec.training.unfinished import Pace, Unfinished

log = logging.getLogger(__name__)

Plain = dict[str, Any]


def plain(node: Any) -> Any:
    """A resolved copy of a configuration node, in plain dicts and lists."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def options(node: Mapping[str, Any] | None) -> Plain:
    """The node without Hydra's own keys but its target's name."""
    if node is None:
        return {}
    return {key: value for key, value in node.items() if key not in ("_partial_", "_convert_")}


def flat(prefix: str, node: Mapping[str, Any] | None) -> Plain:
    """`{"fit.lr": 0.001, ...}`: the options of a node under dotted names."""
    found: Plain = {}
    for key, value in options(node).items():
        if isinstance(value, Mapping):
            found |= flat(f"{prefix}.{key}", value)
        elif key != "_target_":
            found[f"{prefix}.{key}"] = value
    return found


def repeated(overrides: list[str], keys: tuple[str, ...]) -> list[str] | None:
    """The overrides of these keys and of what is below them.

    None if an experiment or tuned settings were chosen, which set keys without naming them on the
    line.
    """
    hidden = ("experiment=", "tuned=", "tuned/teacher=")
    if any(word.lstrip("+").startswith(hidden) for word in overrides):
        return None
    roots = [re.split(r"[.=]", word.lstrip("+~"))[0].split("@")[-1] for word in overrides]
    return [word for word, root in zip(overrides, roots, strict=True) if root in keys]


def target_name(node: Mapping[str, Any]) -> str:
    """`bprmf` for the target `kdrec.models.bprmf.BPRMF`: the name of its file."""
    return str(node["_target_"]).split(".")[-2]


def choose_device(name: str, turn: int | None = None) -> torch.device:
    """`auto` takes CUDA if it is there, else the CPU; Apple's MPS has to be asked for.

    Args:
        name: `auto`, or a device of torch.
        turn: The number of a job of a sweep, which takes its turn among several GPUs.

    Raises:
        UsageError: If the device is unknown or not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        if turn is not None and there["cuda"] and torch.cuda.device_count() > 1:
            return torch.device(f"cuda:{turn % torch.cuda.device_count()}")
        return torch.device("cuda" if there["cuda"] else "cpu")
    if not there.get(name.split(":", maxsplit=1)[0], False):
        usable = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise UsageError(f"device={name} is not available here.", f"Use one of: auto, {usable}.")
    return torch.device(name)


def _relative(path: Path) -> Path:
    """The path as seen from here, if it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _turn(hydra: HydraConf) -> int | None:
    """The number of the job in its sweep; None of a single run."""
    return None if OmegaConf.is_missing(hydra.job, "num") else int(hydra.job.num)


def open_share(url: object) -> Share | None:
    """What machines share; None if nothing.

    Raises:
        KdrecError: If it cannot be used.
    """
    if url is None:
        return None
    if not isinstance(url, str) or not url:
        raise UsageError(f"share={url!r} is no path or URL.", "Give one, or share=null.")
    return Share.open(url)


@dataclass(frozen=True, slots=True)
class Context:
    """Where a command works and how.

    Args:
        output_dir: Holds `runs/`, `sweeps/`, `reports/`.
        data_dir: Holds `raw/` and `processed/`.
        device: Where tensors live.
        force: Run the command's own stage again.
        require: Do not make what is missing upstream.
        config: The whole resolved configuration, for the manifest.
        overrides: What was given on the command line.
        folder: The run directory that Hydra made for this command.
        pace: How often a training is kept on the way.
        share: Where other machines find what is finished here, and the other way round.
    """

    output_dir: Path
    data_dir: Path
    device: torch.device
    force: bool
    require: bool
    config: Plain
    overrides: list[str]
    folder: Path
    pace: Pace
    share: Share | None

    @classmethod
    def of(cls, cfg: DictConfig) -> Context:
        """Reads the shared keys and sets the number of torch threads."""
        if cfg.threads is not None:
            if cfg.threads < 1:
                raise UsageError(f"threads must be at least 1, got {cfg.threads}.")
            torch.set_num_threads(int(cfg.threads))
        upstream = cfg.get("upstream", "make")
        if upstream not in ("make", "require"):
            raise UsageError(f"upstream={upstream} is unknown.", "Use upstream=make or require.")
        hydra = HydraConfig.get()
        return cls(
            output_dir=Path(cfg.output_dir),
            data_dir=Path(cfg.data_dir),
            device=choose_device(str(cfg.device), _turn(hydra)),
            force=bool(cfg.force),
            require=upstream == "require",
            config=plain(cfg),
            overrides=list(hydra.overrides.task),
            folder=_relative(Path(hydra.runtime.output_dir)),
            pace=Pace(**plain(cfg.resume)),
            share=open_share(cfg.share),
        )

    def lock_file(self, identity: str) -> Path:
        """The lock of one stage's result."""
        return self.output_dir / ".locks" / f"{identity[:16]}.lock"

    def made_once(self, identity: str, what: str) -> AbstractContextManager[None]:
        """Within the block no other machine of the share makes what has this identity."""
        return nullcontext() if self.share is None else self.share.hold(identity, what)

    def unfinished(self, identity: str) -> Unfinished:
        """Where a training is kept until its run is finished; for the holder of its lock."""
        found = versions()
        matter = {name: found[name] for name in ("kdrec", "torch", "numpy")}
        folder = self.output_dir / ".unfinished" / identity[:16]
        return Unfinished(folder, identity, versions=matter, pace=self.pace)

    @contextmanager
    def new_run(self, command: str, identity: str, *, own: bool) -> Iterator[Record]:
        """A record for a run: in Hydra's folder for the command's own stage, else in a new one.

        Raises:
            UsageError: If Hydra's folder, which the user chose, has another finished run.
        """
        if own:
            folder = self.folder
            claim(folder, self.output_dir, identity)
        else:
            folder = new_run_folder(self.output_dir, command, identity)
            hydra = folder / ".hydra"
            hydra.mkdir()
            (hydra / "config.yaml").write_text(OmegaConf.to_yaml(self.config), "utf-8")
        yield Record(self, command, identity, folder, time.monotonic())


@dataclass(frozen=True, slots=True)
class Record:
    """A run under way: where its files go, and how it is finished."""

    context: Context
    command: str
    identity: str
    folder: Path
    started: float

    def finish(self, **fields: Any) -> Run:
        """Writes the manifest, which marks the run as finished."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return write_manifest(
            self.folder,
            {
                "command": self.command,
                "identity": self.identity,
                **fields,
                "config": self.context.config,
                "overrides": self.context.overrides,
                "device": str(self.context.device),
                "threads": torch.get_num_threads(),
                "duration_s": round(time.monotonic() - self.started, 3),
                "peak_memory_bytes": peak if sys.platform == "darwin" else peak * 1024,
                "versions": versions(),
                "git": git_state(),
                "finished": datetime.now(UTC).isoformat(),
            },
        )


def versions() -> dict[str, str]:
    """Of Python and of the libraries that the numbers depend on."""
    names = ("torch", "numpy", "pandas", "scipy", "hydra-core")
    found = {name: version(name) for name in names}
    return {"kdrec": kdrec.__version__, "python": platform.python_version()} | found


def git_state() -> Plain | None:
    """Commit and dirty flag of the checkout that kdrec runs from; None for an installed one."""
    root = Path(kdrec.__file__).parent.parent
    if not (root / ".git").exists():
        return None

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603  (fixed words)
                ["git", "-C", str(root), *words],  # noqa: S607
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
                env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            )
        except (OSError, subprocess.SubprocessError) as error:
            log.debug("git %s: %s", words, error)
            return None
        return done.stdout.strip()

    commit, changes = ask("rev-parse", "HEAD"), ask("status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}
