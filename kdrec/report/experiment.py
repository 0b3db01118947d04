"""The report of a preset: its rows beside the paper's numbers, with verdicts and its figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kdrec.errors import KdrecError
from kdrec.progress import task
from kdrec.report import claims, drawings, shares, sizes, spent, teachers
from kdrec.report.cells import Table
from kdrec.report.chosen import Cohort, cohorts, lacking
from kdrec.report.claims import Comparison
from kdrec.report.collect import Finished, collect
from kdrec.report.compare import PerUser
from kdrec.report.drawings import Figure
from kdrec.report.entries import Block
from kdrec.report.preset import Preset
from kdrec.report.published import NOTHING_PUBLISHED, Published
from kdrec.report.report import Report, Section, data_sizes
from kdrec.report.rows import Foreseen, nothing_foreseen


def build_experiment(
    output_dir: Path,
    name: str,
    section: Mapping[str, Any],
    *,
    paper: Mapping[str, Any] | None,
    n_boot: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    runs: Sequence[Path] | None = None,
    foreseen: Foreseen = nothing_foreseen,
) -> Report:
    """Selects the finished runs that a preset names, and holds them against the paper's numbers.

    Args:
        output_dir: Holds `runs/` and `sweeps/`.
        name: Name of the preset.
        section: Its section `report:` (`kdrec.report.preset` explains it).
        paper: The content of the paper's file, None for a preset that names none.
        n_boot: Bootstrap resamples.
        seed: Seed of the bootstrap.
        out: Where the report is to be written; `<output_dir>/reports/<date>/<time>` if None.
        runs: Only these run directories.
        foreseen: The settings that the preset's command gives: they are preferred where runs with
            unlike settings fit a row.

    Raises:
        UsageError: If the section or the paper's file is wrong.
        KdrecError: If none of its runs is finished.
    """
    preset = Preset.of(name, section)
    published = Published.of(preset.paper, paper) if paper is not None else NOTHING_PUBLISHED
    found = collect(Path(output_dir), folders=runs)
    problems = list(found.problems)
    if preset.table == "statistics":
        sections, used, figure = _statistics(found.runs, preset, published)
    else:
        keys = shares.keys(preset) if preset.table == "share" else [c.key for c in preset.columns]
        problems += lacking(found.runs, preset, keys)
        groups = cohorts(found.runs, preset, keys, foreseen)
        used = _used(groups, preset)
        if preset.table == "comparison":
            per_user = PerUser(problems)
            sections, figure = _comparisons(
                groups, preset, published, per_user, n_boot=n_boot, seed=seed
            )
        else:
            make, draw = _PLAIN[preset.table]
            sections = [_section(group, [make(group, preset)]) for group in groups]
            figure = draw(groups, preset) if preset.figure else None
    if not used:
        raise KdrecError(
            f"No finished run below {output_dir} belongs to experiment={name}.",
            "\n".join([*problems, f"conf/experiment/{name}.yaml says how to run it."]),
        )
    now = datetime.now().astimezone()
    folder = out or Path(output_dir) / "reports" / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}"
    figures = [figure] if figure is not None else []
    if figures and find_spec("matplotlib") is None:
        problems.append(
            "The figure, which needs matplotlib. Install it: pip install 'kdrec[figures]'."
        )
        figures = []
    return Report(sections, used, problems, preset.cutoff, folder, figures)


def _used(groups: Sequence[Cohort], preset: Preset) -> list[Finished]:
    """The runs behind the rows, each once; of the table of teachers all, since each is a point."""
    found = [
        run
        for group in groups
        for row in group.rows
        if row.entry is not None
        for run in row.entry.runs
    ]
    if found and preset.table == "teachers":
        found += [run for group in groups for run in group.candidates]
    return list({run.folder: run for run in found}.values())


def _section(cohort: Cohort, tables: Sequence[Table], *facts: str, legend: str = "") -> Section:
    if all(row.entry is None for row in cohort.rows):
        return Section(cohort.block(), cohort.title, "none of its runs is finished", "", [])
    told = "; ".join(filter(None, [data_sizes(cohort.candidates[0]), *facts]))
    return Section(cohort.block(), cohort.title, told, legend, tables)


def _comparisons(
    groups: Sequence[Cohort],
    preset: Preset,
    published: Published,
    per_user: PerUser,
    *,
    n_boot: int,
    seed: int,
) -> tuple[list[Section], Figure | None]:
    made = []
    with task("report", total=len(groups), unit="section") as progress:
        for group in groups:
            made.append(Comparison.of(group, preset, published, per_user, n_boot=n_boot, seed=seed))
            progress.advance()
    legend = claims.legend(preset, published)
    warning = claims.too_few(preset, n_boot)
    sections = [
        _section(
            one.cohort,
            [*one.tables(), spent.table(one.cohort, preset)],
            claims.counted(one.verdicts()),
            warning,
            legend=legend,
        )
        for one in made
    ]
    draw: dict[str, Callable[[Sequence[Comparison], Preset], Figure]] = {
        "bars": drawings.bars,
        "curve": drawings.curve,
    }
    return sections, draw[preset.figure](made, preset) if preset.figure else None


_PLAIN: dict[
    str,
    tuple[Callable[[Cohort, Preset], Table], Callable[[Sequence[Cohort], Preset], Figure]],
] = {
    "share": (shares.table, drawings.share),
    "teachers": (teachers.table, drawings.scatter),
}
"""Tables in which nothing is tested: how each is made, and its figure."""


def _statistics(
    runs: Sequence[Finished], preset: Preset, published: Published
) -> tuple[list[Section], list[Finished], Figure | None]:
    used = [
        run
        for run in runs
        if run.labels["dataset"] in preset.datasets and run.labels["protocol"] in preset.protocols
    ]
    protocol = ", ".join(preset.protocols)
    block = Block("", protocol, "", None, "", "", [])
    table = sizes.table(used, preset, published)
    return [Section(block, "Data sets", published.source, "", [table])], used, None
