"""Mathematical problems: the answer in `\\boxed{}`, compared with the gold as mathematics and not as text."""

from fedrlvr.tasks.candidate import answer_part, declared_answer, last_box
from fedrlvr.tasks.equality import RIGHT, agreement
from fedrlvr.tasks.latex import normalised
from fedrlvr.tasks.math_verify_client import client_for
from fedrlvr.tasks.task import NO_BOX, Incomparable, NotOfThisTask, Task, Verdict
from fedrlvr.tasks.words import is_remark
from fedrlvr.types import Problem


class Math(Task):
    name = "math"
    instruction = "Please reason step by step, and put your final answer within \\boxed{}."

    def verify(self, problem: Problem, completion: str) -> Verdict:
        """Raises VerifierFault if math-verify is needed and cannot be used."""
        completion = answer_part(completion)
        candidate = last_box(completion)
        if candidate is None and self.settings.fallback == "last_line":
            candidate = declared_answer(completion)
        if candidate is None:
            return Verdict(0.0, NO_BOX)
        if len(candidate) > self.settings.max_answer_length:
            return Verdict(0.0, "too long")
        ask = client_for(self.settings.deadline, self.settings.memory_mb).budget()
        reason = agreement(problem.answer.strip(), candidate, ask, self.settings.allow_expressions)
        return Verdict(float(reason in RIGHT), reason)

    def gold_completion(self, problem: Problem) -> str:
        if problem.choices:
            raise NotOfThisTask("choices", "answers are compared as mathematics, so there must be no options")
        if len(problem.answer) > self.settings.max_answer_length:
            raise NotOfThisTask("answer", f"longer than {self.settings.max_answer_length} characters")
        completion = f"\\boxed{{{problem.answer}}}"
        if last_box(completion) != problem.answer.strip():
            raise NotOfThisTask("answer", "braces that do not balance, or a \\boxed{} of its own")
        if is_remark(normalised(problem.answer)):
            reason = "a remark, a long sentence or invisible characters, which no completion's answer can equal"
            raise Incomparable("answer", reason)
        return completion
