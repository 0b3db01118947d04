"""What a preset wants reported: its section `report:`, checked.

The stages ignore the section. All of it:

```yaml
report:
  table: comparison          # comparison: ours beside the paper's, with verdicts; share: what the
                             #   lists are made of; statistics: of the data; teachers: the gain
                             #   by the teacher that gave it
  figure: bars               # of a comparison: bars or curve; a share and teachers have their own,
                             #   drawn with `figure: true`; left out: none
  caption: "..."             # what it shows, a sentence
  paper: unkd                # conf/paper/unkd.yaml; left out: nothing to compare with
  datasets: [ml-1m]          # a section for each data set, protocol and student
  protocols: [paper]         # default: [paper]
  students: [bprmf]          # models of the students
  metrics: [recall@10, recall@10 unpopular, recall@10 unpopular diluted]   # eligible if not diluted
  cutoff: 10                 # of a share; default 10
  seeds: [0, 1, 2]           # student seeds that count; left out: all that there are
  teacher_seeds: [0]         # likewise of the teachers
  where: {dim: 10}           # what all students' runs must have
  baseline: none             # name of the row that the others are compared with; default: none
  methods:                   # the rows in order, each with what its runs must have
    teacher: {role: teacher, paper: teacher}
    none: {}                 # nothing said: method=none, and the paper's row of that name
    UnKD: {method: unkd, method.n_groups: 4, paper: unkd}
    UnKD over K: {method: unkd, vary: {method.n_groups: [2, 3, 4]}}   # a row a value, a curve's x
```

What runs must have are labels of their manifests (method, model, teacher, dim, role, ...) or dotted
settings (method.n_groups, fit.weight, teacher.dim, ...); a list means any of its values, null that
there is none. A method's teacher is the student's model unless `teacher` says another (or `any`).

Of several settings that fit a row, those that the preset's command gives are shown, then those with
the most runs; behind varied rows, and of a cohort's teacher, they are chosen once
(`kdrec.report.rows`, `kdrec.report.chosen`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdrec.artifacts import setting_text
from kdrec.report.compare import Column
from kdrec.report.entries import short_name
from kdrec.report.section import Values

TABLES = ("comparison", "share", "statistics", "teachers")
FIGURES = {"comparison": ("bars", "curve"), "share": ("share",), "teachers": ("scatter",)}
_KEYS = (
    "table", "figure", "caption", "paper", "datasets", "protocols", "students", "metrics", "cutoff",
    "seeds", "teacher_seeds", "where", "baseline", "methods",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowSpec:
    """One row: which runs it is made of.

    Args:
        name: How it is written.
        series: The row it was varied from; its own name if it was not.
        where: What its runs must have.
        paper: Its name in the paper's numbers, "" if it has none there.
        x: Value of what is varied, None if nothing is.
        x_name: Short name of what is varied.
        varied: The label or setting that is varied, "" if nothing is.
    """

    name: str
    series: str
    where: Mapping[str, Any]
    paper: str = ""
    x: Any = None
    x_name: str = ""
    varied: str = ""

    @property
    def is_teacher(self) -> bool:
        """Whether its runs are teachers."""
        return self.where.get("role") == "teacher"


@dataclass(frozen=True, slots=True)
class Preset:
    """A checked `report:` section; the fields are explained in the module's text."""

    name: str
    table: str
    figure: str
    caption: str
    paper: str
    datasets: Sequence[str]
    protocols: Sequence[str]
    students: Sequence[str]
    columns: Sequence[Column]
    cutoff: int
    seeds: Sequence[int] | None
    teacher_seeds: Sequence[int] | None
    where: Mapping[str, Any]
    baseline: str
    rows: Sequence[RowSpec]

    @classmethod
    def of(cls, name: str, section: Mapping[str, Any]) -> Preset:
        """Checks a section.

        Raises:
            UsageError: An unknown key, a missing one, or a value that cannot be.
        """
        values = Values(name, section)
        unless = values.unless
        for key in section:
            unless(key in _KEYS, f"unknown key {key!r}", f"Keys are: {', '.join(_KEYS)}.")
        table = section.get("table", "comparison")
        unless(table in TABLES, f"table={table!r}", f"Use one of: {', '.join(TABLES)}.")
        for key in ("datasets", "students", "methods", "metrics"):
            needless = table == "statistics" and key != "datasets"
            needless = needless or (table == "share" and key == "metrics")
            unless(bool(section.get(key)) or needless, f"{key} is missing", f"Add {key}.")
        figure = _figure(table, section.get("figure"), values)
        rows = list(_rows(values, curve=figure == "curve"))
        names = [row.name for row in rows]
        unless(len(set(names)) == len(names), "two methods have one name", "Rename one.")
        baseline = str(section.get("baseline", "none"))
        students = [row.name for row in rows if not row.is_teacher]
        unless(
            not rows or table == "share" or baseline in students,
            f"baseline={baseline!r} is none of its methods"
            + (", but a teacher" if baseline in names else ""),
            f"Methods are: {', '.join(students)}.",
        )
        return cls(
            name=name,
            table=table,
            figure=figure,
            caption=str(section.get("caption", "")),
            paper=str(section.get("paper") or ""),
            datasets=values.names("datasets"),
            protocols=values.names("protocols", ["paper"]),
            students=values.names("students"),
            columns=values.columns(),
            cutoff=values.whole("cutoff", 10),
            seeds=values.seeds("seeds"),
            teacher_seeds=values.seeds("teacher_seeds"),
            where=values.wanted(section.get("where"), "where", of="dim: 10"),
            baseline=baseline,
            rows=rows,
        )


def _figure(table: str, wanted: object, values: Values) -> str:
    known = FIGURES.get(table, ())
    if not wanted:
        return ""
    if wanted is True and len(known) == 1:
        return known[0]
    values.unless(
        wanted in known,
        f"figure={wanted!r} is none of table={table}",
        f"Use {' or '.join(known)}." if known else "It has no figure.",
    )
    return str(wanted)


def _rows(values: Values, *, curve: bool) -> Iterator[RowSpec]:
    any_varied = False
    for name, where in values.methods():
        varied = dict(values.varied(name, where.pop("vary", None), numbers=curve))
        any_varied = any_varied or bool(varied)
        paper = where.pop("paper", "" if where or varied else name)
        if "method" not in where and where.get("role") != "teacher":
            where["method"] = name
        if not varied:
            yield RowSpec(name, name, where, str(paper or ""))
        for key, several in varied.items():
            short = short_name(key)
            for value in several:
                label = f"{name} {short}={setting_text(value)}"
                yield RowSpec(label, name, where | {key: value}, "", value, short, key)
    values.unless(any_varied or not curve, "figure=curve, and no method varies anything",
                  "Give one of them vary: {KEY: [1, 2]}.")  # fmt: skip
