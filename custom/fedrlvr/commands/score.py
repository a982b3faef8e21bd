"""`fedrlvr score`: the rewards of completions, as training would give them.

Each line of the input is a JSON object with `answer` and `completion`, and `choices` for a multiple-choice task. The
output adds `reward` and `reason`. Lines are scored as they are read, so all lines before a bad one are written. An
answer that nothing can be compared with ("see figure") is no bad line here: its reward is 0, its reason "no gold".
Training refuses such a problem.
"""

import argparse
import json
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from fedrlvr.config import VerifierSettings
from fedrlvr.data.problems import ProblemFileError, parse_problem, read_records
from fedrlvr.tasks import TASKS, Task, task_named
from fedrlvr.tasks.task import Incomparable, NotOfThisTask, Verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task", required=True, metavar="NAME", help=f"one of {', '.join(TASKS)}, or one of an installed package"
    )
    parser.add_argument("--input", required=True, type=Path, metavar="FILE", help="JSON Lines with answer, completion")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the lines go (default: standard output)")
    parser.add_argument(
        "--fallback",
        choices=["none", "last_line"],
        default="none",
        help="what counts where there is no \\boxed{}: nothing, or a last line that declares the answer",
    )
    parser.add_argument("--allow-expressions", action="store_true", help="let 2+2 count as 4")


def run(arguments: argparse.Namespace) -> int:
    """Score every line and print a summary on stderr. Raises VerifierFault where math-verify cannot be used, ValueError
    for a line that cannot be scored or an output that is also the input, and OSError."""
    settings = VerifierSettings(fallback=arguments.fallback, allow_expressions=arguments.allow_expressions)
    task = task_named(arguments.task, settings)
    if not arguments.input.is_file():
        raise FileNotFoundError(f"--input: no such file: {arguments.input}")
    if arguments.output and arguments.output.exists() and arguments.output.samefile(arguments.input):
        raise ValueError(f"{arguments.output}: is also the input, which would be lost")
    reasons: Counter[str] = Counter()
    total = 0.0
    with arguments.output.open("w") if arguments.output else nullcontext(sys.stdout) as output:
        for where, record in read_records(arguments.input):
            verdict = _verdict(record, task, where)
            # json.dumps escapes half a surrogate pair, which may be in a field that is not ours.
            print(json.dumps(record | verdict._asdict()), file=output)
            reasons[verdict.reason] += 1
            total += verdict.reward
    count = reasons.total()
    shares = ", ".join(f"{reason} {number}" for reason, number in reasons.most_common())
    mean = f", mean reward {total / count:.4f}: {shares}" if count else ""
    print(f"{count} completions{mean}", file=sys.stderr)
    return 0


def _verdict(record: object, task: Task, where: str) -> Verdict:
    """A line's reward. Raises ProblemFileError, naming the field, for a line that cannot be scored."""
    if not isinstance(record, dict):
        raise ProblemFileError(f"{where}: expected a JSON object, found {type(record).__name__}")
    if "completion" not in record:
        raise ProblemFileError(f"{where}, field completion: missing")
    if not isinstance(record["completion"], str):
        raise ProblemFileError(f"{where}, field completion: expected text, found {type(record['completion']).__name__}")
    asked = {name: record[name] for name in ("answer", "choices") if name in record}
    problem = parse_problem({"id": "-", "prompt": "-"} | asked, where)
    try:
        task.gold_completion(problem)
    except Incomparable:
        return Verdict(0.0, "no gold")
    except NotOfThisTask as error:
        if error.field in ("answer", "choices"):  # the question is not needed here
            raise ProblemFileError(f"{where}, field {error.field}: not for the task {task.name}: {error}") from None
    return task.verify(problem, record["completion"])
