"""The report: everything that finished, in tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from kdrec.artifacts import atomic_path
from kdrec.errors import KdrecError
from kdrec.progress import task
from kdrec.report import files
from kdrec.report import runs as behind
from kdrec.report.cells import Table
from kdrec.report.collect import Collected, Finished, collect
from kdrec.report.compare import PerUser
from kdrec.report.drawings import Figure
from kdrec.report.entries import Block, blocks
from kdrec.report.render import say, show_table
from kdrec.report.tables import Builder


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A block with its tables.

    Args:
        block: The rows.
        title: Data set, protocol and student.
        facts: Size of the data, seeds.
        legend: What marks mean.
        tables: The tables.
    """

    block: Block
    title: str
    facts: str
    legend: str
    tables: Sequence[Table]

    def head(self) -> list[object]:
        """The first fields of its lines in a CSV file."""
        block = self.block
        return [self.title, block.dataset, block.protocol, block.student,
                "" if block.dim is None else block.dim, block.evaluation]  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What `build` found.

    Args:
        sections: A section for each set of rows that may be compared.
        runs: The runs behind them.
        problems: What could not be used, a sentence each.
        cutoff: Length of the lists.
        folder: Where `write` writes by default.
        figures: What is drawn beside the tables.
    """

    sections: Sequence[Section]
    runs: Sequence[Finished]
    problems: Sequence[str]
    cutoff: int
    folder: Path
    figures: Sequence[Figure] = ()

    def show(self, out: Console) -> None:
        """Prints all tables."""
        for section in self.sections:
            say(section.title, out, "bold underline")
            say(section.facts, out, "dim")
            out.print()
            legend = section.legend
            for table in section.tables:
                show_table(table, out, legend if table.marked else "")
                legend = "" if table.marked else legend  # said once a section is enough
        for problem in self.problems:
            say(f"Left out: {problem}", out, "yellow")

    def write(self, folder: Path | None = None) -> list[Path]:
        """Writes `report.md`, `report.tex`, `tables.csv`, `runs.csv`, figures, each atomically."""
        folder = folder or self.folder
        parts = [(one.tables, one.title, one.facts, one.legend) for one in self.sections]
        rows = [line for one in self.sections for line in files.csv_rows(one.tables, one.head())]
        left_out = "".join(f"- {problem}\n" for problem in self.problems)
        if left_out:
            left_out = f"\n## Left out\n\n{left_out}"
        sections = "\n".join(files.markdown(*one) for one in parts)
        pictures = "".join(files.markdown_figure(one.name, one.caption) for one in self.figures)
        drawn = [files.latex_figure(one.name, one.caption) for one in self.figures]
        contents = {
            "report.md": f"# kdrec report\n\n{sections}{pictures}{left_out}",
            "report.tex": "\n".join([*(files.latex(*one) for one in parts), *drawn]),
            "tables.csv": files.csv_text(files.CSV_HEADER, rows),
            "runs.csv": files.csv_text(*behind.lines(self.runs)),
        }
        written = []
        for name, content in contents.items():
            with atomic_path(folder / name) as path:
                path.write_text(content, "utf-8")
            written.append(folder / name)
        return [*written, *(path for figure in self.figures for path in figure.write(folder))]

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program; a number that does not exist is null."""
        return {
            "cutoff": self.cutoff,
            "sections": [
                {
                    "title": one.title,
                    "dataset": one.block.dataset,
                    "protocol": one.block.protocol,
                    "student": one.block.student,
                    "dim": one.block.dim,
                    "evaluation": one.block.evaluation,
                    "tables": [files.table_json(table) for table in one.tables],
                }
                for one in self.sections
            ],
            "runs": [
                {**behind.identified(run), "settings": dict(run.settings)} for run in self.runs
            ],
            "problems": list(self.problems),
        }


def build(
    output_dir: Path,
    *,
    cutoff: int = 10,
    n_boot: int = 1000,
    seed: int = 0,
    dataset: str | None = None,
    out: Path | None = None,
    runs: Sequence[Path] | None = None,
) -> Report:
    """Gathers finished runs into a report.

    Args:
        output_dir: Holds `runs/` and `sweeps/`.
        cutoff: Length of the lists; one that the runs were evaluated at.
        n_boot: Bootstrap resamples.
        seed: Seed of the bootstrap.
        dataset: Only runs on this data set.
        out: Where the report is to be written; `<output_dir>/reports/<date>/<time>` if None.
        runs: Only these run directories.

    Raises:
        KdrecError: If there is no finished run, or none has this data set or cut-off.
    """
    output_dir = Path(output_dir)
    found = collect(output_dir, folders=runs)
    chosen = _choose(found, output_dir, dataset, cutoff)
    problems = list(found.problems)
    per_user = PerUser(problems)
    parts = blocks(chosen)
    sections = []
    with task("report", total=len(parts), unit="section") as progress:
        for block in parts:
            builder = Builder(block, per_user, cutoff=cutoff, n_boot=n_boot, seed=seed)
            sections.append(_section(builder))
            progress.advance()
    now = datetime.now().astimezone()
    folder = out or output_dir / "reports" / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}"
    return Report(_distinct(sections), chosen, problems, cutoff, folder)


def _choose(found: Collected, output_dir: Path, dataset: str | None, cutoff: int) -> list[Finished]:
    if not found.runs:
        raise KdrecError(
            f"There are no finished runs below {output_dir}"
            + (f" ({len(found.problems)} could not be read)." if found.problems else "."),
            "\n".join([*found.problems, "Run: kdrec run"]),
        )
    known = sorted({str(run.labels["dataset"]) for run in found.runs})
    if dataset is not None and dataset not in known:
        raise KdrecError(
            f"There is no finished run on the data set {dataset!r}.",
            f"There are runs on: {', '.join(known)}. Or run: kdrec run dataset={dataset}",
        )
    runs = [run for run in found.runs if dataset in (None, run.labels["dataset"])]
    at = {int(key[4].partition("@")[2]) for run in runs for key in run.metrics if "@" in key[4]}
    if cutoff not in at:
        raise KdrecError(
            f"No run was evaluated at the cut-off {cutoff}.",
            f"Known are: {', '.join(map(str, sorted(at)))}. Others: kdrec evaluate run=FOLDER "
            f"evaluation.cutoffs=[{cutoff}]",
        )
    return [run for run in runs if any(key[4].endswith(f"@{cutoff}") for key in run.metrics)]


def _section(builder: Builder) -> Section:
    block = builder.block
    student = block.student + (f", dim {block.dim}" if block.dim is not None else "")
    title = f"{block.dataset} · protocol {block.protocol} · " + (
        f"student {student}" if block.student else "teachers"
    )
    runs = [run for entry in block.entries for run in entry.runs]
    facts = [sizes] if (sizes := data_sizes(runs[0])) else []
    counts = sorted({len(entry.runs) for entry in block.entries})
    facts.append(f"runs a row: {' to '.join(map(str, dict.fromkeys([counts[0], counts[-1]])))}")
    return Section(block, title, "; ".join(facts), builder.legend(), builder.tables())


def data_sizes(run: Finished) -> str:
    """`6,040 users, 3,706 items, ...` of a run's data set, as far as its manifest says."""
    names = [name for name in ("users", "items", "interactions") if name in run.stats]
    return ", ".join(f"{run.stats[name]:,} {name}" for name in names)


def _distinct(sections: list[Section]) -> list[Section]:
    """The sections; those with equal titles get the digests that set them apart."""
    named = []
    for one in sections:
        kin = [other.block for other in sections if other.title == one.title]
        title = one.title
        if len({block.evaluation for block in kin}) > 1:
            title += f" · evaluation {one.block.evaluation[:8]}"
        if len({block.data for block in kin}) > 1:
            title += f" · data {one.block.data[:8]}"
        named.append(replace(one, title=title))
    return named
