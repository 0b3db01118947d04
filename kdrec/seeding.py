"""Named random streams.

Every random draw in kdrec takes its generator as an argument, and every generator comes from
here. A stream is keyed by a seed and by names, so that a new draw in one place never shifts
another.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from kdrec.errors import UsageError

if TYPE_CHECKING:
    import torch


def _sequence(seed: int, names: tuple[str, ...]) -> np.random.SeedSequence:
    if seed < 0:
        raise UsageError(f"A seed must not be negative, got {seed}.", "Use 0 or more.")
    digest = hashlib.sha256("\x1f".join(names).encode()).digest()
    words = np.frombuffer(digest, dtype="<u4")
    return np.random.SeedSequence([seed, *(int(word) for word in words)])


def stream(seed: int, *names: str) -> np.random.Generator:
    """The numpy generator of this seed and these names, for example `stream(0, "split")`."""
    return np.random.default_rng(_sequence(seed, names))


def torch_stream(seed: int, *names: str, device: str = "cpu") -> torch.Generator:
    """The torch generator of this seed and these names, on `device`."""
    import torch  # noqa: PLC0415  (torch takes seconds to import, and `--help` comes by here)

    state = int(_sequence(seed, names).generate_state(1, np.uint64)[0])
    return torch.Generator(device=device).manual_seed(state >> 1)
