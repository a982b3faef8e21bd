"""Which installed package offers a task: what its metadata and its files say, without running any of its code.

A package offers a task by an entry point in the group `fedrlvr.tasks`, whose name is the task's. What a job is told of
that package is the same at all sites, or they would not judge alike.
"""

import hashlib
import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field

from fedrlvr.config import Settings
from fedrlvr.printable import one_line
from fedrlvr.settings_file import SettingsError

GROUP = "fedrlvr.tasks"
PART = r"^[A-Za-z0-9][A-Za-z0-9.+!_-]*$"


class TaskPackage(Settings):
    """The package that a job's task comes from. `source` is over the Python files of its top-level module."""

    name: str = Field(pattern=PART, max_length=100)
    version: str = Field(pattern=PART, max_length=100)
    source: str = Field(pattern=r"^[0-9a-f]{16}$")

    def __str__(self) -> str:
        return f"{self.name} {self.version} (source {self.source})"


@cache
def offers() -> dict[str, list[EntryPoint]]:
    """The entry points of all installed packages by the task that they name, sorted."""
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, package_name(point))):
        found.setdefault(one_line(point.name), []).append(point)
    return found


def offer(task: str) -> EntryPoint | None:
    """The entry point of the installed package that offers this task; None where none does. Raises SettingsError where
    two do."""
    points = offers().get(task, [])
    if len(points) > 1:
        raise SettingsError(
            f"task: {task!r} is offered by {' and by '.join(map(described, points))}; expected one: uninstall the other"
        )
    return points[0] if points else None


@cache
def package_of(task: str) -> TaskPackage | None:
    """The installed package that offers this task. Raises SettingsError as `offer`, and for one that is broken."""
    point = offer(task)
    if point is None:
        return None
    name, version = package_name(point), point.dist.version if point.dist else None
    if not (re.match(PART, name) and version and re.match(PART, version)):
        raise SettingsError(
            f"task: {described(point)} has no name and version that pip would give it; install it again"
        )
    return TaskPackage(name=name, version=version, source=_source(point))


def code_of(task: str) -> Path | None:
    """Where the installed code of this task is: a folder or a file; None for a task of ours. Raises SettingsError and
    ModuleNotFoundError."""
    point = offer(task)
    return _root(point.module) if point else None


def package_name(point: EntryPoint) -> str:
    return one_line(point.dist.name or "") if point.dist else ""


def described(point: EntryPoint) -> str:
    """The package and its entry point, for errors."""
    version = one_line(point.dist.version or "") if point.dist else ""
    return f"package {package_name(point)} {version} (entry point `{one_line(point.name)} = {one_line(point.value)}`)"


def _source(point: EntryPoint) -> str:
    """SHA-256 over name and content of the Python files, first 16 hex digits, as `version.source_hash`."""
    try:
        root = _root(point.module)
        files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
        digest = hashlib.sha256()
        for path in files:
            digest.update(path.relative_to(root.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    except (ImportError, AttributeError, ValueError, OSError) as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise SettingsError(
            f"task: the source of {described(point)} is not found: {reason}; install it again"
        ) from None
    return digest.hexdigest()[:16]


def _root(module: str) -> Path:
    """The folder or file of the first part of a dotted name that is no namespace."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        spec = find_spec(".".join(parts[:count]))
        if spec is None:
            break
        if spec.origin is not None:
            origin = Path(spec.origin)
            return origin.parent if spec.submodule_search_locations else origin
    raise ModuleNotFoundError(f"no module named {module}")
