"""The package's own rules, read from its source: who may import whom, how long files and functions may be."""

import ast
import pkgutil
import subprocess
import sys
from configparser import ConfigParser
from graphlib import TopologicalSorter
from importlib.metadata import metadata, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "custom" / "fedrlvr"
SOURCES = sorted(PACKAGE.rglob("*.py"))
EVERYTHING = sorted(p for room in ("custom", "jobs", "poc", "tests") for p in (REPOSITORY / room).rglob("*.py"))

BASE = {"__init__", "config", *(path.stem for path in PACKAGE.glob("*.py"))} - {"cli"}
PURE = {"protocol", "algorithms", "privacy"}  # load no framework
ALLOWED = {  # room -> rooms it may import from, besides itself and the base
    "protocol": set(),
    "algorithms": {"protocol"},
    "privacy": {"protocol", "algorithms"},
    "tasks": set(),
    "data": {"tasks", "algorithms"},
    "tiny": {"tasks", "data"},
    "learning": {"protocol", "tasks", "data", "privacy", "algorithms"},
    "worker": {"protocol", "learning", "algorithms"},
    "site": {"protocol", "worker", "learning", "tasks", "data", "privacy", "algorithms"},
    "server": {"protocol", "algorithms"},
    "flare": {"server", "site", "worker", "protocol", "privacy"},
}
OUTER = {"report", "launch", "comparison", "cli", "commands"}  # may import anything
ONLY_IN = {"nvflare": {"flare"}, "deepspeed": {"learning"}, "peft": {"learning"}}
FRAMEWORKS = ("nvflare", "deepspeed", "transformers", "peft")


def room_of(path: Path) -> str:
    """ "base", a sub-package, or the name of a module at the top."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "base" if first in BASE else first


def imports_of(path: Path, everywhere: bool = True) -> list[str]:
    """Every imported name, dotted, wherever it stands, or at the module's top only; a relative import is an error."""
    names, tree = [], ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for name in imports_of(path):
        top, *rest = name.split(".")
        if top == "fedrlvr":
            module = rest[0] if rest else "__init__"
            known = (PACKAGE / module).is_dir() or (PACKAGE / f"{module}.py").is_file()
            rooms.add("base" if module in BASE or not known else module)  # not known: a name in __init__
    return rooms


def shown(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_there_is_something_to_read():
    assert {room_of(path) for path in SOURCES} >= {*ALLOWED, "base", "report", "launch"}


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_imports_point_one_way(path):
    room = room_of(path)
    if room in OUTER:
        return
    assert room == "base" or room in ALLOWED, f"{shown(path)} is in no room this rule knows"
    assert imported_rooms(path) <= {"base", room} | ALLOWED.get(room, set())


@pytest.mark.parametrize("framework", ONLY_IN)
def test_a_framework_stays_in_its_room(framework):
    importers = {room_of(p) for p in SOURCES if any(name.split(".")[0] == framework for name in imports_of(p))}
    assert importers == ONLY_IN[framework]


def test_the_contract_algorithms_and_privacy_load_no_framework():
    """What their imports import counts too, so this is seen in a fresh interpreter."""
    modules = [
        "fedrlvr." + path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        for path in SOURCES
        if room_of(path) in PURE and path.stem != "__init__"
    ]
    assert len(modules) > 5
    code = (
        "import importlib, sys\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        f"print([name for name in {FRAMEWORKS} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == "[]"


def test_every_imported_name_is_there():
    """Also in scripts that no test runs."""
    names = {name for path in EVERYTHING for name in imports_of(path) if name.split(".")[0] == "fedrlvr"}
    assert len(names) > 300
    for name in names - {"fedrlvr"}:
        pkgutil.resolve_name(name)


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions do not count: they run later."""
    graph = {}
    for path in SOURCES:
        name = "fedrlvr." + path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        graph[name.removesuffix(".__init__")] = set(imports_of(path, everywhere=False))
    graph = {n: {m for m in graph for i in found if i == m or i.rpartition(".")[0] == m} for n, found in graph.items()}
    TopologicalSorter({name: needed - {name, "fedrlvr"} for name, needed in graph.items()}).prepare()


def brought_by(requirements: list[Requirement]) -> set[str]:
    """The packages that pip installs for these: themselves, and what each of them requires."""
    seen, todo = set(), list(requirements)
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            needed = [Requirement(line) for line in requires(name) or ()]
            todo += [need for need in needed if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def required() -> list[Requirement]:
    """What the package needs, with everything that is optional at run time."""
    setup = ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    extras = setup["options.extras_require"]
    lines = "\n".join([setup["options"]["install_requires"], extras["dp"], extras["pii"]]).split("\n")
    return [Requirement(line) for line in lines if line]


def test_every_extra_that_is_asked_for_is_spelt_as_its_package_spells_it():
    """An older pip leaves others out, with a warning."""
    asked = [(requirement.name, extra) for requirement in required() for extra in requirement.extras]
    assert asked
    for name, extra in asked:
        assert extra in metadata(name).get_all("Provides-Extra")


def test_whatever_the_package_imports_is_installed_with_it():
    """Or its wheel would not run where nothing else is installed."""
    installed = brought_by(required())
    imported = {name.split(".")[0] for path in SOURCES for name in imports_of(path)}
    foreign, makers = imported - sys.stdlib_module_names - {"fedrlvr"}, packages_distributions()
    assert {"torch", "yaml", "dp_accounting"} <= foreign
    assert {name for name in foreign if not installed & {canonicalize_name(maker) for maker in makers[name]}} == set()


@pytest.mark.parametrize("path", EVERYTHING, ids=shown)
def test_no_file_is_longer_than_350_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


def test_no_function_is_longer_than_40_lines():
    long = []
    for path in EVERYTHING:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = node.end_lineno - node.lineno + 1
                if lines > 40:
                    long.append(f"{shown(path)}:{node.lineno} {node.name}: {lines}")
    assert long == []


def test_nothing_edits_sys_path():
    guilty = []
    for path in EVERYTHING:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
                guilty.append(f"{shown(path)}:{node.lineno}")
    assert guilty == []
    assert not any("sys.path" in imports_of(path) for path in EVERYTHING)
