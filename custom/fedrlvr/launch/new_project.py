"""What `fedrlvr init` writes: a small project around problems of the user's own, from the package's templates."""

import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fedrlvr.flare.site.site_kit import site_kit
from fedrlvr.sealed_folder import new_folder
from fedrlvr.settings_file import SettingsError
from fedrlvr.task_package import described, offers
from fedrlvr.tasks import TASKS
from fedrlvr.version import installed

Kind = Literal["math", "choice", "own"]
KINDS = get_args(Kind)
TEMPLATES = Path(__file__).parents[1] / "templates"
MODEL = "Qwen/Qwen3-1.7B"  # for which the preset's values are
NAME = r"[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?"  # a module's and a package's


def check_name(name: str, kind: Kind) -> None:
    """Raises SettingsError for what cannot be a project's name, or means something else in this environment."""
    if not re.fullmatch(NAME, name) or keyword.iskeyword(name):
        raise SettingsError(
            f"{name!r}: expected a name that Python can import: letters of a to z, digits and _, such as my_project"
        )
    if name in sys.stdlib_module_names or find_spec(name) is not None or installed(name) is not None:
        raise SettingsError(f"{name!r}: would hide a module or package that is installed here; choose another name")
    if kind == "own" and name in TASKS:
        raise SettingsError(f"{name!r}: is the name of one of our tasks; choose another name")
    if kind == "own" and name in offers():
        raise SettingsError(f"{name!r}: is a task of {described(offers()[name][0])} already; choose another name")


def project_files(folder: Path, kind: Kind) -> dict[str, str]:
    """{path: content} of a project's files, in a folder of its name that need not be there."""
    name = folder.name
    ours = {
        "README.md": "README.md.jinja",
        "job.py": "job.py.jinja",
        "preset.yaml": "preset.yaml.jinja",
        "test_problems.py": "test_problems.py.jinja",
        "problems.jsonl": f"problems.{kind}.jsonl",
        "pytest.ini": "pytest.ini.jinja",
        ".gitignore": "gitignore.jinja",
    }
    if kind == "own":
        ours |= {
            "pyproject.toml": "package/pyproject.toml.jinja",
            f"{name}/__init__.py": "package/__init__.py.jinja",
            f"{name}/task.py": "package/task.py.jinja",
        }
    class_name = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    about = {"name": name, "kind": kind, "task": name if kind == "own" else kind, "class_name": class_name}
    made = _environment()
    files = {path: made.get_template(source).render(model=MODEL, **about) for path, source in ours.items()}
    return files | {f"site/{path}": content for path, content in _site_files(folder / "site").items()}


def write_project(folder: Path, kind: Kind) -> list[str]:
    """Write a project into a new folder, whose name is the project's: all of it, or nothing. Returns the files' paths
    in it. Raises SettingsError as `check_name`, for a folder that is there, and OSError."""
    if folder.exists() or folder.is_symlink():
        raise SettingsError(f"{folder}: exists already; nothing was written; choose another name, or move it away")
    check_name(folder.name, kind)
    files = project_files(folder, kind)
    with new_folder(folder) as unfinished:
        for path, content in files.items():
            target = unfinished / path
            target.parent.mkdir(exist_ok=True)
            target.write_text(content, encoding="utf-8")
    return list(files)


def _site_files(folder: Path) -> dict[str, str]:
    """What `fedrlvr site init` writes into a site's `local/` folder; paths are from there."""
    settings = {
        "model": MODEL,
        "model_path": "../models/base",
        "private_problems": "../data/site-1.jsonl",
        "public_problems": "../data/public.jsonl",
        "test_problems": "../data/test.jsonl",
    }
    return site_kit(folder, "open", settings)


def _environment() -> Environment:
    """Marks of our own, as braces are common in what is written."""
    ends = {"block": ("[%", "%]"), "variable": ("[[", "]]"), "comment": ("[#!", "!#]")}
    marks = {f"{kind}_{end}_string": pair[end == "end"] for kind, pair in ends.items() for end in ("start", "end")}
    loader = FileSystemLoader(TEMPLATES)
    how = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    return Environment(loader=loader, autoescape=False, **marks, **how)
