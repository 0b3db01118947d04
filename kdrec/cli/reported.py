"""What `kdrec report` is asked for: all finished runs, or those of a preset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrec.cli.composed import explain
from kdrec.cli.foreseen import Settings
from kdrec.cli.values import did_you_mean
from kdrec.errors import UsageError

if TYPE_CHECKING:
    from kdrec.report import Report

WORD = "experiment="


@dataclass(frozen=True, slots=True)
class Reported:
    """The request of a command line.

    Args:
        runs: Run folders, empty for all.
        experiment: Name of a preset, "" for none.
        section: The preset's section `report:`.
        paper: The content of the paper's file that the section names, None if it names none.
        folders: Config folders, the first wins.
    """

    runs: Sequence[Path]
    experiment: str
    section: dict[str, Any]
    paper: dict[str, Any] | None
    folders: Sequence[Path]

    @classmethod
    def of(cls, words: Sequence[str], experiment: str | None, folders: Sequence[Path]) -> Reported:
        """Parts `experiment=NAME` from the run folders and reads the preset.

        Args:
            words: The words of the line that are no options.
            experiment: The value of `--experiment`.
            folders: Config folders, the first wins.

        Raises:
            UsageError: Two presets, an unknown one, or one without a section `report:`.
        """
        named = [word.removeprefix(WORD) for word in words if word.startswith(WORD)]
        named += [experiment] if experiment else []
        runs = [Path(word) for word in words if not word.startswith(WORD)]
        if len(set(named)) > 1:
            raise UsageError(f"A report is of one experiment, not of {' and '.join(named)}.")
        for word in map(str, runs):
            key, equals, value = word.partition("=")
            if equals and not Path(word).exists():
                option = f"--{key.replace('_', '-')} {value}"
                raise UsageError(f"There is no run folder {word}.", f"Did you mean {option}?")
            if word in _names("experiment", folders) and not Path(word).exists():
                raise UsageError(f"There is no run folder {word}.", f"Did you mean {WORD}{word}?")
        if not named:
            return cls(runs, "", {}, None, folders)
        name = named[0]
        section = _load("experiment", name, folders).get("report")
        if not isinstance(section, dict):
            having = [one for one in _names("experiment", folders) if _has_report(one, folders)]
            raise UsageError(
                f"experiment={name} has no section `report:`.",
                f"These have one: {', '.join(having)}." if having else "No experiment has one.",
            )
        paper = section.get("paper")
        content = _load("paper", str(paper), folders) if paper else None
        return cls(runs, name, section, content, folders)

    def build(
        self,
        output_dir: Path,
        *,
        dataset: str | None,
        cutoff: int | None,
        out: Path | None,
        seed: int,
        n_boot: int,
    ) -> Report:
        """Makes the report; the preset says the cut-off, and its data sets may be narrowed to one.

        Raises:
            UsageError: A cut-off beside a preset, or a data set that is none of the preset's.
        """
        from kdrec.report import build, build_experiment  # noqa: PLC0415  (imports pandas)

        runs = list(self.runs) or None
        if not self.experiment:
            return build(
                output_dir, dataset=dataset, cutoff=10 if cutoff is None else cutoff, out=out,
                seed=seed, n_boot=n_boot, runs=runs,
            )  # fmt: skip
        if cutoff is not None:
            raise UsageError(
                f"experiment={self.experiment} says itself which cut-offs it shows.",
                "Leave --cutoff out, or change the preset's section `report:`.",
            )
        section = self.section
        if dataset is not None:
            named = section.get("datasets") or ()
            known = [named] if isinstance(named, str) else list(named)
            if dataset not in known:
                raise UsageError(
                    f"{dataset} is no data set of experiment={self.experiment}.",
                    did_you_mean(dataset, known, "Its data sets are"),
                )
            section = {**section, "datasets": [dataset]}
        return build_experiment(
            output_dir, self.experiment, section, paper=self.paper, out=out, seed=seed,
            n_boot=n_boot, runs=runs, foreseen=Settings(self.experiment, self.folders),
        )  # fmt: skip


def _names(kind: str, folders: Sequence[Path]) -> list[str]:
    return sorted({path.stem for folder in folders for path in (folder / kind).glob("*.yaml")})


def _has_report(name: str, folders: Sequence[Path]) -> bool:
    try:
        return isinstance(_load("experiment", name, folders).get("report"), dict)
    except UsageError:
        return False


def _load(kind: str, name: str, folders: Sequence[Path]) -> dict[str, Any]:
    """The section `report:` of a preset, or all of a paper's file, as plain data."""
    merged = _merged(kind, name, folders)
    node = OmegaConf.create({"report": merged.get("report")}) if kind == "experiment" else merged
    try:
        content = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def _merged(kind: str, name: str, folders: Sequence[Path], above: tuple[str, ...] = ()) -> Any:
    """A config file over those of its folder that its defaults list names, as Hydra merges them."""
    path = next((p for folder in folders if (p := folder / kind / f"{name}.yaml").is_file()), None)
    if path is None:
        raise UsageError(
            f"There is no {kind} {name!r}.",
            did_you_mean(name, _names(kind, folders), f"Known {kind}s"),
        )
    try:
        own = OmegaConf.load(path)
    except Exception as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(own, DictConfig):
        raise UsageError(f"{path} holds no keys.")
    defaults = own.pop("defaults", [])
    below = [one for one in defaults if isinstance(one, str) and one != "_self_"]
    below = [one for one in below if one not in above and one in _names(kind, folders)]
    return OmegaConf.merge(*[_merged(kind, one, folders, (*above, name)) for one in below], own)
