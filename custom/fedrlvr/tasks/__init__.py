"""Tasks: one file each, with its problems, its prompt and its verifier. A new task is one file and one line here."""

from fedrlvr.config import PromptSettings, VerifierSettings
from fedrlvr.tasks.arithmetic import Arithmetic
from fedrlvr.tasks.choice import Choice
from fedrlvr.tasks.dosage import Dosage
from fedrlvr.tasks.math import Math
from fedrlvr.tasks.protocol import Protocol
from fedrlvr.tasks.task import Task
from fedrlvr.tasks.wordings import Wordings

TASKS: dict[str, Task] = {
    task.name: task for task in (Protocol(), Wordings(), Arithmetic(), Math(), Choice(), Dosage())
}
SYNTHETIC = {"math": "arithmetic", "choice": "dosage"}  # task -> the generated task whose problems a dry run can use


def task_named(name: str, settings: VerifierSettings | None = None, prompt: PromptSettings | None = None) -> Task:
    """Raises ValueError naming the known tasks."""
    if name not in TASKS:
        raise ValueError(f"task: no task is called {name!r}; known: {', '.join(sorted(TASKS))}")
    return type(TASKS[name])(settings, prompt) if settings or prompt else TASKS[name]
