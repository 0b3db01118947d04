"""Where the configuration lies, and what Hydra must know before it reads it.

`teacher=x` and `student=x` both mean `conf/model/x.yaml`, `teacher_fit=x` means `conf/fit/x.yaml`:
for each file and role a node is put into Hydra's ConfigStore whose defaults are that file.
`${kdrec_id:}` names a run directory.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROLES = {"teacher": "model", "student": "model", "teacher_fit": "fit"}
"""The groups that are aliases, and of which group."""

_NOT_IN_ID = ("hydra", "output_dir", "data_dir", "device", "threads", "force", "upstream", "report",
              "share", "allow_code")  # fmt: skip
_HAS_DIM = re.compile(r"^dim\s*:", re.MULTILINE)


def conf_dir() -> Path:
    """The folder with the configs: `kdrec/conf` in a wheel, `conf` beside `kdrec` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def register(folders: Iterable[Path] = ()) -> None:
    """Tells Hydra of the roles and the resolvers; call it before Hydra reads a config.

    Args:
        folders: Config folders, the first wins: each file `model/x.yaml` in one of them becomes
            `teacher=x` and `student=x`, unless the folder has a file of that name for the role;
            likewise `fit/x.yaml` becomes `teacher_fit=x`. None given: `conf_dir()`.
    """
    register_resolvers()
    register_roles(list(folders) or [conf_dir()])


def register_roles(folders: list[Path]) -> None:
    """Stores a node per file and role, and forgets those stored before."""
    from hydra.core.config_store import ConfigStore  # noqa: PLC0415  (`--help` comes by here)

    store = ConfigStore.instance()
    for role, group in ROLES.items():
        store.repo.pop(role, None)
        taken: set[str] = {path.stem for folder in folders for path in (folder / role).glob("*.y*")}
        for path in (
            path for folder in folders for path in sorted((folder / group).glob("*.yaml"))
        ):
            if path.stem in taken:
                continue
            taken.add(path.stem)
            store.store(group=role, name=path.stem, node=_role_node(role, path), provider="kdrec")


def _role_node(role: str, path: Path) -> dict[str, object]:
    node: dict[str, object] = {"defaults": [f"/{ROLES[role]}/{path.stem}@_here_", "_self_"]}
    if _HAS_DIM.search(path.read_text(encoding="utf-8")):
        node["dim"] = f"${{{role}_dim}}"
    return node


def register_resolvers() -> None:
    """Registers `${kdrec_id:}`; a worker process needs this too."""
    from omegaconf import OmegaConf  # noqa: PLC0415  (`--help` comes by here)

    OmegaConf.register_new_resolver("kdrec_id", run_id, replace=True)


def run_id(*, _root_: Any) -> str:
    """Eight hexadecimal digits that tell one job's config from another's; never raises.

    Where things lie and what they run on (directories, device, threads) is no part of it.
    """
    try:
        from omegaconf import OmegaConf  # noqa: PLC0415

        from kdrec.digests import digest  # noqa: PLC0415

        config: Any = OmegaConf.to_container(_root_, resolve=False)
        return digest({key: config[key] for key in config if key not in _NOT_IN_ID})[:8]
    except Exception:  # noqa: BLE001  (a name of a folder is not worth a failed run)
        return hashlib.sha256(repr(_root_).encode()).hexdigest()[:8]


def user_folders(config_path: str | None, config_dir: str | None) -> list[Path]:
    """The config folders of a command line, in the order in which Hydra searches them."""
    main = Path(config_path.removeprefix("file://")) if config_path else conf_dir()
    return [main, Path(os.path.abspath(config_dir))] if config_dir else [main]  # noqa: PTH100
