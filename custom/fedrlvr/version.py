"""The versions of protocol and code. Every message carries both, and a receiver that runs other code refuses it."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROTOCOL = 7


@cache
def source_hash() -> str:
    """SHA-256 over this package's Python files (name and content), first 16 hex digits."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def installed(package: str) -> str | None:
    """The version of an installed package. None for one that is not, as this one where it runs from its folder."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
