"""What `--help` says."""

from __future__ import annotations

from dataclasses import dataclass

PROGRAM = """\
Distil a recommender, and see whom the compression hurts.

\b
First:      kdrec run                             the whole pipeline on the built-in data set
Then:       kdrec list                            what there is to choose from
            kdrec distill --help                  what can be set, with examples
Completion: eval "$(kdrec -sc install=bash)"      also zsh; fish: kdrec -sc install=fish | source

download preprocess train distill tune evaluate run take overrides (key=value) and all of
Hydra's flags; what an earlier step has to make, a later one makes by itself. Results go to stdout,
everything else to stderr.

\b
Exit status: 0 done, 1 the run failed, 2 wrong usage or configuration, 3 data not available,
130 interrupted.
"""

FLAGS = """\
\b
Hydra's flags, anywhere on the line:
  -m, --multirun       one run for each combination of the values a,b,c; a failure stops none of the
                       others, and the same line again makes what is not finished; a preset that
                       is a sweep (experiment=table1) needs no -m, and --run makes one run of it
  hydra/launcher=joblib hydra.launcher.n_jobs=2
                       two at once (also: ray; submitit_local, submitit_slurm)
  -c, --cfg job        show the config and run nothing (also: hydra, all)
  -p, --package KEY    only this part of it;  --resolve  with ${...} filled in
  -cd, --config-dir D  a folder of your own config files, beside the built-in ones
                       (allow_code=true: they may name code that is none of kdrec's)
  -cn, --config-name N another primary config
  --info [WHAT]        how the config came about (defaults, searchpath, ...)
  --hydra-help         Hydra's own help
"""

_WHERE = {
    "dataset=NAME": "the data set (kdrec list datasets)",
    "dataset.path=FILE": "a local file or folder instead of the download",
}
_SPLIT = _WHERE | {
    "protocol=NAME": "how it is split (kdrec list protocols)",
    "split_seed=N": "seed of the split",
}
_PLACES = {
    "data_dir=DIR": "where data lie (default: data)",
    "output_dir=DIR": "where results land (default: outputs)",
    "share=URL": "where machines find each other's splits and runs (path, s3://...)",
}
_MACHINE = {
    "device=cuda": "where to compute",
    "force=true": "run it although it is done, from the start",
    "resume.every_minutes=X": "how often a training is kept, to go on after a break (default: 5)",
}
_TEACHER = {
    "teacher=NAME": "the teacher's model (kdrec list models); teacher=[a,b]: an ensemble",
    "teacher_dim=N": "its embedding size",
    "debias=NAME": "how it is debiased (kdrec list debias); none: not at all",
    "teacher_lr=X": "its learning rate; teacher_l2=X; teacher_seed=N; teacher_fit.epochs=N",
}
_STUDENT = {
    "method=NAME": "how (kdrec list methods); none: the student from data alone",
    "K=N": "number of popularity groups (method=unkd)",
    "weight=X": "weight of the distillation loss",
    "student=NAME": "the student's model (kdrec list models)",
    "student_dim=N": "its embedding size",
    "lr=X": "its learning rate; l2=X: weight decay; seed=N: seed of the student",
    "fit.epochs=N": "at most so many epochs (also batch_size, patience, eval_every)",
}


@dataclass(frozen=True)
class Page:
    """The help of one command.

    Args:
        does: What it does; the first sentence stands in the list of commands.
        keys: The most useful overrides and what they mean.
        examples: Command lines that work, and what for.
        results: Where results land.
    """

    does: str
    keys: dict[str, str]
    examples: dict[str, str]
    results: str

    def text(self) -> str:
        """The page as Typer takes it."""
        keys = _columns(self.keys)
        examples = _columns(self.examples)
        return (
            f"{self.does}\n\n\b\nMost useful overrides:\n{keys}\n\n\b\nExamples:\n{examples}\n\n"
            f"\b\nResults:\n  {self.results}\n\n{FLAGS}"
        )


def _columns(rows: dict[str, str]) -> str:
    width = max(len(left) for left in rows)
    return "\n".join(f"  {left:<{width}}  {right}" for left, right in rows.items())


PAGES = {
    "download": Page(
        "Fetches a data set's official files, resumed and verified by checksum.",
        _WHERE | _PLACES,
        {
            "kdrec download dataset=ml-100k": "fetch and verify",
            "KDREC_MIRROR=https://host/data kdrec download dataset=ml-1m": "from a mirror",
        },
        "DATA_DIR/raw/<dataset>/; nothing is fetched twice.",
    ),
    "preprocess": Page(
        "Filters, reindexes and splits a data set, and prints its statistics.",
        _SPLIT
        | {
            "dataset.filters.min_user=N": "drop users with fewer interactions",
            "dataset.filters.min_rating=X": "keep ratings of at least X only",
        }
        | _PLACES,
        {
            "kdrec preprocess": "the built-in data set",
            "kdrec preprocess dataset=citeulike protocol=paper": "as in the UnKD paper",
            "kdrec preprocess -m dataset=synthetic split_seed=0,1,2": "three splits",
        },
        "DATA_DIR/processed/<dataset>/<digest>/: the split, the maps of ids, the statistics.",
    ),
    "train": Page(
        "Trains a teacher on a data set.",
        {
            "teacher=NAME": "its model (kdrec list models); teacher=[a,b]: an ensemble",
            "teacher_dim=N": "its embedding size",
            "debias=NAME": "how it is debiased (kdrec list debias); none: not at all",
            "lr=X": "its learning rate; l2=X: weight decay; seed=N: seed of its training",
            "teacher_fit.epochs=N": "at most so many epochs (also batch_size, patience)",
            "metric=[recall,ndcg]": "what to evaluate (kdrec list metrics)",
        }
        | _SPLIT
        | _MACHINE
        | _PLACES,
        {
            "kdrec train teacher=lightgcn": "LightGCN on the built-in data set",
            "kdrec train dataset=citeulike teacher=bprmf lr=0.01": "BPR-MF, CiteULike",
            "kdrec train -m teacher=bprmf,lightgcn seed=0,1": "four teachers",
            "kdrec train teacher=bprmf debias=pd debias.gamma=0.05": "debiased by PD",
        },
        "OUTPUT_DIR/runs/<date>/<time>_train_<id>/ (a sweep: OUTPUT_DIR/sweeps/).",
    ),
    "distill": Page(
        "Distils a teacher into a small student; trains the teacher first if there is none yet.",
        _STUDENT
        | {
            "upstream=require": "fail, rather than train, where the teacher is missing",
        }
        | _TEACHER
        | _SPLIT
        | _MACHINE
        | _PLACES,
        {
            "kdrec distill method=unkd K=4": "UnKD with four groups",
            "kdrec distill teacher=[lightgcn,bprmf]": "from two teachers at once",
            "kdrec distill method=none": "what it is compared with",
            "kdrec distill -m method=unkd K=2,3,4 seed=0,1": "six runs",
            "kdrec distill dataset=citeulike method=unkd lr=0.01 --dry-run": "check and show only",
        },
        "OUTPUT_DIR/runs/<date>/<time>_distill_<id>/ (a sweep: OUTPUT_DIR/sweeps/); kdrec report.",
    ),
    "tune": Page(
        "Searches a student's or a teacher's settings on the validation data, test unseen.",
        {
            "method=NAME": "whose settings (kdrec list methods); none: the student from data alone",
            "role=teacher": "the teacher's settings in place of the student's",
            "tune.trials=N": "trials in all, failed ones too (default: 20); ask for more later",
            "tune.seed=N": "seed of the search; all trials have the same seed of the student",
        }
        | _TEACHER
        | _SPLIT
        | _MACHINE
        | _PLACES,
        {
            "kdrec tune dataset=citeulike method=unkd": "lr, l2 and what the method names",
            "kdrec tune method=unkd tune.space.weight='choice(0.1,1)'": "other values of a key",
            "kdrec tune tune.space.l2=null tune.space.K='range(2,6)'": "leave l2 alone; K, too",
            "kdrec tune tune.space.lr='tag(log,interval(1e-4,1e-1))'": "an interval, log scale",
            "kdrec tune -m method=none,unkd tune.trials=10": "the same number of trials for each",
            "kdrec tune role=teacher teacher=bprmf": "the teacher's lr and l2",
        },
        "OUTPUT_DIR/tuning/<name>_<id>/: the search, which goes on where it was stopped, and the\n"
        "  best settings as an experiment of kdrec distill. Several processes may share a search.\n"
        "  Every trial is an ordinary run in OUTPUT_DIR/runs/.",
    ),
    "evaluate": Page(
        "Evaluates a finished run again: other metrics, cut-offs or groups, no training.",
        {
            "run=ID": "which run: its folder, or the first characters of its identity",
            "metric=[recall,mrr]": "what to compute (kdrec list metrics)",
            "evaluation.cutoffs=[10,20]": "lengths of the lists",
            "evaluation.item_groups=N": "popularity groups that are told apart",
            "evaluation.user_bins=N": "user groups that are told apart",
        }
        | _PLACES,
        {
            "kdrec evaluate run=3f2a evaluation.cutoffs=[5,50]": "other cut-offs",
            "kdrec evaluate run=3f2a metric=[recall,mrr] --json": "for a program",
        },
        "OUTPUT_DIR/runs/<date>/<time>_evaluate_<id>/.",
    ),
    "run": Page(
        "Runs the whole pipeline, from the data set to the tables.",
        _STUDENT | _TEACHER | _SPLIT | _MACHINE | _PLACES,
        {
            "kdrec run": "the built-in data set, ending with the tables",
            "kdrec run dataset=citeulike K=4 lr=0.01": "another data set",
        },
        "OUTPUT_DIR/runs/ and OUTPUT_DIR/reports/.",
    ),
}

REPORT = """\
Gathers finished runs, and prints and writes the tables.

Overall; popular against unpopular items; head against tail users; the change against the
student trained from data alone. Runs of unlike data sets or protocols never share a table.

\b
Examples:
  kdrec report                          all finished runs
  kdrec report --dataset citeulike      one data set
  kdrec report outputs/runs/2026-*/*    only these run folders
  kdrec report --cutoff 20 --json       for a program
  kdrec report experiment=table1        a preset's runs beside the paper's numbers, with verdicts

\b
Results:
  stdout, and OUT (default OUTPUT_DIR/reports/DATE/TIME/) as Markdown, CSV and LaTeX,
  figures as PNG and SVG.
"""

LIST = """\
Shows what there is to choose from, with a line of what it is; for a method what it needs of the
teacher: scores (any teacher has them), vectors, a trajectory (checkpoints of its training), or
training (one that can be trained along with the student).

\b
Examples:
  kdrec list                     everything
  kdrec list methods             what method= takes
  kdrec list datasets --json     for a program
"""
