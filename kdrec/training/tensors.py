"""Tensors to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from kdrec.artifacts import atomic_path
from kdrec.errors import StorageError


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file, whole or not at all.

    Args:
        path: The file.
        tensors: On any device, by name.

    Raises:
        StorageError: If it cannot be written.
    """
    content = {name: part.detach().cpu().contiguous() for name, part in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(content, temporary)
        except SafetensorError as error:  # which is no OSError, though it tells of one
            raise StorageError(
                f"Cannot write {path}: {error}.",
                "Free some space, or choose another folder with output_dir=...",
            ) from error
