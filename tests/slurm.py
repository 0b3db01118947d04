"""A Slurm of this machine alone, as much of one as a sweep needs; see `install`.

Run as a program it is one of Slurm's own, by its first argument.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

PROGRAMS = ("sbatch", "srun", "squeue", "scancel", "scontrol")


def install(folder: Path) -> dict[str, str]:
    """Puts the programs into a folder, and returns the variables by which they are found."""
    for name in PROGRAMS:
        program = folder / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {__file__} {name} "$@"\n')
        program.chmod(0o755)
    return {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "SLURM_TOY": str(folder)}


def jobs() -> Path:
    folder = Path(os.environ["SLURM_TOY"], "jobs")
    folder.mkdir(exist_ok=True)
    return folder


def sbatch(script: str) -> None:
    text = Path(script).read_text()
    if "--partition=nonesuch" in text:
        sys.exit("sbatch: error: invalid partition specified: nonesuch")
    number = len({path.name.partition("_")[0] for path in jobs().iterdir()}) + 1
    array = re.search(r"--array=0-(\d+)", text)
    for name in [f"{number}_{n}" for n in range(int(array[1]) + 1)] if array else [str(number)]:
        folder = jobs() / name
        folder.mkdir()
        (folder / "script").write_text(text)
        (folder / "state").write_text("PENDING")
        subprocess.Popen(
            [sys.executable, "-I", __file__, "serve", name], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    sys.stdout.write(f"Submitted batch job {number}\n")


def serve(name: str) -> None:
    """Runs a job, again and again if it is put back into the queue."""
    folder = jobs() / name
    array, _, element = name.partition("_")
    number = str(100 * int(array) + int(element or 0))
    own = {"JOB_ID": number, "JOB_NUM_NODES": "1", "NTASKS": "1", "NODEID": "0", "PROCID": "0"}
    own |= {"ARRAY_JOB_ID": array, "ARRAY_TASK_ID": element} if element else {"JOB_ID": array}
    state = "PENDING"
    while state == "PENDING":
        (folder / "state").write_text("RUNNING")
        with (folder / "log").open("a") as log:
            status = subprocess.run(
                ["bash", folder / "script"], check=False, stdout=log, stderr=log,
                env=os.environ | {f"SLURM_{key}": value for key, value in own.items()}
                | {"SLURM_TOY_JOB": name},
            ).returncode  # fmt: skip
        taken = folder / "taken"
        state = taken.read_text() if taken.exists() else "FAILED" if status else "COMPLETED"
        taken.unlink(missing_ok=True)
    (folder / "state").write_text(state)


def srun(*words: str) -> None:
    (jobs() / os.environ["SLURM_TOY_JOB"] / "pid").write_text(str(os.getpid()))
    command = words[words.index(sys.executable) :]
    os.execv(command[0], command)


def squeue(*_: str) -> None:
    for folder in jobs().iterdir():
        sys.stdout.write(f"{folder.name}|{(folder / 'state').read_text()}\n")


def scancel(*names: str) -> None:
    for name in names:
        _take(name, "CANCELLED")


def scontrol(_: str, name: str) -> None:
    _take(name, "PENDING")


def _take(name: str, state: str) -> None:
    """Ends a job as Slurm does, but asks only."""
    folder = jobs() / name
    if (folder / "state").read_text() != "RUNNING":
        return
    (folder / "taken").write_text(state)
    os.kill(int((folder / "pid").read_text()), signal.SIGTERM)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
