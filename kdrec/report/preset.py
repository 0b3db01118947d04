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

from kdrec.errors import UsageError
from kdrec.evaluation.part import COLD
from kdrec.report.compare import Column
from kdrec.report.entries import setting_text, short_name

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
        wrong = _Wrong(name)
        for key in section:
            wrong.unless(key in _KEYS, f"unknown key {key!r}", f"Keys are: {', '.join(_KEYS)}.")
        table = section.get("table", "comparison")
        wrong.unless(table in TABLES, f"table={table!r}", f"Use one of: {', '.join(TABLES)}.")
        for key in ("datasets", "students", "methods", "metrics"):
            needless = table == "statistics" and key != "datasets"
            needless = needless or (table == "share" and key == "metrics")
            wrong.unless(bool(section.get(key)) or needless, f"{key} is missing", f"Add {key}.")
        baseline = str(section.get("baseline", "none"))
        rows = list(_rows(section.get("methods") or {}))
        known = [row.name for row in rows]
        wrong.unless(
            not rows or table == "share" or baseline in known,
            f"baseline={baseline!r} is none of its methods",
            f"Methods are: {', '.join(known)}.",
        )
        wrong.unless(len(set(known)) == len(known), "two methods have one name", "Rename one.")
        return cls(
            name=name,
            table=table,
            figure=_figure(table, section.get("figure"), wrong),
            caption=str(section.get("caption", "")),
            paper=str(section.get("paper") or ""),
            datasets=_list(section.get("datasets")),
            protocols=_list(section.get("protocols", ["paper"])),
            students=_list(section.get("students")),
            columns=[column(str(text), wrong.named) for text in section.get("metrics") or ()],
            cutoff=int(section.get("cutoff", 10)),
            seeds=section.get("seeds"),
            teacher_seeds=section.get("teacher_seeds"),
            where=section.get("where") or {},
            baseline=baseline,
            rows=rows,
        )


@dataclass(frozen=True, slots=True)
class _Wrong:
    name: str

    @property
    def named(self) -> str:
        return f"The report section of experiment={self.name}"

    def unless(self, right: bool, what: str, hint: str) -> None:  # noqa: FBT001
        if not right:
            raise UsageError(f"{self.named}: {what}.", hint)


def column(text: str, where: str = "A metric") -> Column:
    """`recall@10 unpopular diluted`: the metric, an item group, and the form of its mean.

    Raises:
        UsageError: If the text is not of this form.
    """
    metric, *rest = text.split()
    form = rest.pop() if rest and rest[-1] in ("eligible", "diluted") else "eligible"
    if "@" not in metric or len(rest) > 1:
        raise UsageError(
            f"{where}: {text!r} names no metric.",
            f"Use for example recall@10, or recall@10 unpopular diluted; groups are popular, "
            f"unpopular and {COLD}.",
        )
    if not rest:
        return Column(text, ("test", "all", "all", "", metric))
    return Column(text, ("test", "items", rest[0], form, metric))


def _figure(table: str, wanted: object, wrong: _Wrong) -> str:
    known = FIGURES.get(table, ())
    if not wanted:
        return ""
    if wanted is True and len(known) == 1:
        return known[0]
    wrong.unless(
        wanted in known,
        f"figure={wanted!r} is none of table={table}",
        f"Use {' or '.join(known)}." if known else "It has no figure.",
    )
    return str(wanted)


def _list(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def _rows(methods: Mapping[str, Any] | Sequence[str]) -> Iterator[RowSpec]:
    if not isinstance(methods, Mapping):
        methods = dict.fromkeys(methods)
    for name, given in methods.items():
        where = dict(given or {})
        varied: Mapping[str, Sequence[Any]] = where.pop("vary", None) or {}
        paper = where.pop("paper", "" if where or varied else name)
        if "method" not in where and where.get("role") != "teacher":
            where["method"] = name
        if not varied:
            yield RowSpec(name, name, where, str(paper or ""))
        for key, values in varied.items():
            short = short_name(key)
            for value in values:
                label = f"{name} {short}={setting_text(value)}"
                yield RowSpec(label, name, where | {key: value}, "", value, short, key)
