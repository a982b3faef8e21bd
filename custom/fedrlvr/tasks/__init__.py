"""Tasks: one file each, with its problems, its prompt and its verifier. A new task is one file and one line here, or a
class in another installed package (`installed.py`)."""

from difflib import get_close_matches

from fedrlvr.config import PromptSettings, VerifierSettings
from fedrlvr.settings_file import SettingsError
from fedrlvr.task_package import TaskPackage, described, offers, package_name
from fedrlvr.tasks.arithmetic import Arithmetic
from fedrlvr.tasks.choice import Choice
from fedrlvr.tasks.dosage import Dosage
from fedrlvr.tasks.installed import installed_task, other_package
from fedrlvr.tasks.math import Math
from fedrlvr.tasks.protocol import Protocol
from fedrlvr.tasks.task import Task
from fedrlvr.tasks.wordings import Wordings

TASKS: dict[str, Task] = {
    task.name: task for task in (Protocol(), Wordings(), Arithmetic(), Math(), Choice(), Dosage())
}
SYNTHETIC = {"math": "arithmetic", "choice": "dosage"}  # task -> the generated task whose problems a dry run can use


def task_named(name: str, settings: VerifierSettings | None = None, prompt: PromptSettings | None = None) -> Task:
    """One of ours, or one that an installed package offers. Raises SettingsError: naming the known tasks; for a package
    that cannot be used, or that offers a task by the name of one of ours."""
    if name in TASKS:
        for point in offers().get(name, ()):
            raise SettingsError(f"task: {name!r} is one of ours, and {described(point)} offers it as well; rename that")
        return type(TASKS[name])(settings, prompt) if settings or prompt else TASKS[name]
    made = installed_task(name)
    if made is None:
        near = get_close_matches(name, [*TASKS, *offers()], 1)
        install = "if another package offers it, install that here, as its README says"
        what = f"did you mean {near[0]}?" if near else install
        raise SettingsError(f"task: no task is called {name!r}; known: {', '.join(known_tasks())}; {what}")
    try:
        return made(settings, prompt)
    except Exception as error:
        raise SettingsError(
            f"task: {name} of {made.package} cannot be made: {type(error).__name__}: {error}; expected "
            "a class whose __init__ takes VerifierSettings and PromptSettings"
        ) from error


def known_tasks() -> list[str]:
    """The names of all tasks, behind those of other packages the package's."""
    others = {name: points for name, points in offers().items() if name not in TASKS}
    return [*sorted(TASKS), *(f"{name} (of {', '.join(map(package_name, points))})" for name, points in others.items())]


def check_package(name: str, named: TaskPackage | None) -> str:
    """What to say where a job names another package for its task than is installed here; "" where it names that one.
    Raises SettingsError for a broken one."""
    return other_package(name, named, ours=name in TASKS)


def own_package(task: Task) -> TaskPackage | None:
    """The installed package that a task comes from; None for one of ours."""
    return getattr(task, "package", None)
