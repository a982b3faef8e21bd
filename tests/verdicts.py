"""What the mathematics task says of an answer in a box, and tables of golds and answers."""

from fedrlvr.tasks import TASKS, Task
from fedrlvr.tasks.task import Verdict
from fedrlvr.types import Problem


def verdict(gold: str, candidate: str, task: Task = TASKS["math"]) -> Verdict:
    return task.verify(Problem("x", "?", gold), f"so \\boxed{{{candidate}}}.")


def pairs(table: str) -> list[tuple[str, str]]:
    """(gold, answer) of each line `gold | answer`."""
    return [tuple(line.split(" | ")) for line in table.strip().splitlines()]
