"""Tasks of other installed packages: loaded when they are asked for, and checked whenever they judge.

Such a task is a class that inherits from `Task`. Whatever goes wrong in its code is a fault of the installation, which
must not become a reward. What is said of it never quotes a problem: it may be told to others.
"""

import traceback
from functools import cache
from numbers import Real
from pathlib import Path

import numpy as np

from fedrlvr.printable import MAX_NAME, one_line
from fedrlvr.settings_file import SettingsError
from fedrlvr.task_package import TaskPackage, described, offer, package_of
from fedrlvr.tasks.task import NotOfThisTask, Task, Verdict, VerifierFault
from fedrlvr.types import Message, Problem, Prompt

KINDS = {str: "a text", Problem: "a Problem", Verdict: "a Verdict", Real: "a number from 0 to 1"}
REQUIRED = ("verify", "gold_completion")


class Checked:
    """Goes before another package's task in its class. Raises VerifierFault where its code raises, or returns what the
    interface of a task does not allow."""

    package: TaskPackage

    def prompt(self, problem: Problem) -> Prompt:
        made = self._called("prompt", _id(problem), problem)
        turns = isinstance(made, tuple) and made and all(isinstance(turn, Message) for turn in made)
        return made if turns else self._of(str, made, "prompt", _id(problem))

    def gold_completion(self, problem: Problem) -> str:
        made = self._called("gold_completion", _id(problem), problem)
        return self._of(str, made, "gold_completion", _id(problem))

    def variant(self, problem: Problem, number: int) -> Problem:
        return self._of(Problem, self._called("variant", _id(problem), problem, number), "variant", _id(problem))

    def verify(self, problem: Problem, completion: str) -> Verdict:
        made = self._of(Verdict, self._called("verify", _id(problem), problem, completion), "verify", _id(problem))
        reward = float(self._of(Real, made.reward, "verify", f"as the reward, {_id(problem)}"))
        reason = self._of(str, made.reason, "verify", f"as the reason, {_id(problem)}")
        if not 0 <= reward <= 1:  # NaN is not
            self._fault("verify", f"returned the reward {reward:g}, expected one from 0 to 1", _id(problem))
        if len(reason) > MAX_NAME:
            self._fault("verify", f"returned a reason of more than {MAX_NAME} characters", _id(problem))
        return Verdict(reward, reason)

    def problem(self, label: str, random: np.random.Generator) -> Problem:
        about = f"for the label {label!r}"
        return self._of(Problem, self._called("problem", about, label, random), "problem", about)

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        made = self._called("demonstration", _id(problem), problem, random)
        return self._of(str, made, "demonstration", _id(problem))

    def _called(self, method: str, about: str, *given):
        try:
            return getattr(super(), method)(*given)
        except VerifierFault:
            raise
        except Exception as error:
            if isinstance(error, NotOfThisTask) and method == "gold_completion":
                raise
            place = traceback.extract_tb(error.__traceback__)[-1]
            said = f"raised {type(error).__name__} ({Path(place.filename).name}, line {place.lineno})"
            self._fault(method, said, about, error)

    def _of(self, kind: type, found: object, method: str, about: str):
        if not isinstance(found, kind):
            self._fault(method, f"returned {type(found).__name__}, expected {KINDS[kind]}", about)
        return found

    def _fault(self, method: str, what: str, about: str, cause: Exception | None = None):
        raise VerifierFault(f"task {self.name} of {self.package}: {method} {what}, {about}") from cause


def _id(problem: Problem) -> str:
    return f"for the problem with the id {problem.id!r}"


@cache
def installed_task(name: str) -> type[Task] | None:
    """The class of the task that an installed package offers; None where none does. Raises SettingsError, which names
    the package, where it cannot be used."""
    point = offer(name)
    if point is None:
        return None
    try:
        made = point.load()
    except (Exception, SystemExit) as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise SettingsError(f"task: {described(point)} cannot be imported: {reason}") from error
    if reason := _not_a_task(made, name):
        raise SettingsError(f"task: {described(point)} {reason}")
    about = {"package": package_of(name), "__module__": made.__module__}
    return type(made.__name__, (Checked, made), about)


def _not_a_task(made: object, name: str) -> str:
    """Why this is no task of that name; "" where it is one."""
    if not isinstance(made, type) or Task not in made.__mro__ or made is Task:
        return "is no task; expected a class that inherits from fedrlvr.tasks.task.Task"
    missing = [method for method in REQUIRED if getattr(made, method) is getattr(Task, method)]
    if missing:
        return f"has no {' and no '.join(missing)}, which a task needs"
    if getattr(made, "name", None) != name:
        return f"has the name {getattr(made, 'name', None)!r:.80}; expected {name!r}, as the entry point"
    return ""


def other_package(task: str, named: TaskPackage | None, ours: bool) -> str:
    """What to say where a job names another package for its task than is installed here; "" where it names that one.
    `ours` says that the task is fedrlvr's own, which needs none. Raises SettingsError as `package_of`."""
    here = None if ours else package_of(task)
    if here == named:
        return ""
    has = f"this site has {here}" if here else "this site has no package that offers it"
    if ours:
        has = "this site knows it as one of fedrlvr's own"
    wants = f"the job is for {named}" if named else "the job names no package"
    return f"task {task!r} differs: {wants}, {has}; a site runs only what its own IT has installed"
