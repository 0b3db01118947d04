"""Checksums of values and files, and a value that carries its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SEAL = "sha256"
"""The key under which a sealed value has the digest of all its other keys."""


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: the same text for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: object) -> str:
    """sha256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as JSON gives it back, with its own digest."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(content), allow_nan=False))
    plain.pop(SEAL, None)
    return {**plain, SEAL: digest(plain)}


def is_intact(content: Mapping[str, Any]) -> bool:
    """Whether a sealed value is what was sealed; one without a seal is not."""
    rest = {key: value for key, value in content.items() if key != SEAL}
    return content.get(SEAL) == digest(rest)
