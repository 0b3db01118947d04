"""Out of memory: what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig, OmegaConf

from kdrec.errors import NotEnoughMemoryError, is_out_of_memory

_OF_ALL = ("evaluation.batch_size",)
_OF_TEACHER = ("teacher_fit.batch_size", "teacher_dim")
_OF_STUDENT = ("fit.batch_size", "student_dim", "teacher_dim", "method.distiller.pool",
               "method.distiller.student_pool")  # fmt: skip


@contextmanager
def explained(cfg: DictConfig, during: str, *, teacher: bool) -> Iterator[None]:
    """Says which settings need the memory, and what they are now.

    Args:
        cfg: The configuration.
        during: What the block does.
        teacher: Whether it does it with a teacher, or with a student.

    Raises:
        NotEnoughMemoryError: If the block runs out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        keys = (*_OF_ALL, *(_OF_TEACHER if teacher else _OF_STUDENT))
        values = {key: OmegaConf.select(cfg, key) for key in keys}
        now = ", ".join(f"{key} ({value})" for key, value in values.items() if value is not None)
        raise NotEnoughMemoryError(
            during,
            error,
            f"Lower one of: {now}.\nThe first changes no result, and a training goes on where it "
            "was kept; with the others it is another run.",
        ) from error
