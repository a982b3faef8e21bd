"""Packages of other people, as pip leaves them: a module, and its metadata beside it."""

from pathlib import Path

TRIAGE = """
from fedrlvr.tasks.task import Task, Verdict


class Triage(Task):
    name = "triage"
    instruction = "Answer with urgency and ward."

    def verify(self, problem, completion):
        right = problem.answer.split()
        said = completion.split()[:2]
        hits = sum(one == other for one, other in zip(right, said))
        return Verdict(hits / 2, ("wrong", "half", "right")[hits])

    def gold_completion(self, problem):
        return problem.answer
"""
POINT = "triage = ward_tasks:Triage"


def install(folder: Path, code: str = TRIAGE, points: str = POINT, name: str = "ward-tasks", version: str = "1.2"):
    """A package of one module, `ward_tasks` for the name ward-tasks, with these entry points for tasks."""
    module = name.replace("-", "_")
    about = folder / f"{module}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(f"[fedrlvr.tasks]\n{points}\n")
    (folder / f"{module}.py").write_text(code)
    return folder
