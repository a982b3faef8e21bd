"""`fedrlvr egress try`: which answers a policy would let leave, beside private problems of somebody's choice.

Each line of the input is a JSON object with `text`, and optionally `problem_id`. The output adds `leaves` and `rule`,
the name of the first rule that the answer breaks, null where it may leave. Nothing is sent, logged or charged.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

from fedrlvr.config import VerifierSettings
from fedrlvr.data.problems import ProblemFileError, read_problems, read_records
from fedrlvr.privacy.answers import Context, broken_rules
from fedrlvr.privacy.pii import Presidio
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.records import MAX_TEXT, PublicResponse
from fedrlvr.settings_file import SettingsError, load_settings
from fedrlvr.site.private_texts import private_index, site_names, texts_in
from fedrlvr.tasks import task_named

Line = tuple[dict, PublicResponse]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", type=Path, required=True, metavar="FILE", help="such as the site's policy.yaml")
    texts = "a problem file, or JSON Lines with text"
    parser.add_argument("--private", type=Path, required=True, metavar="FILE", help=f"what may not leave: {texts}")
    parser.add_argument("--public", type=Path, metavar="FILE", help=f"what is public: {texts}")
    parser.add_argument("--input", type=Path, required=True, metavar="FILE", help="answers: JSON Lines with text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the lines go (default: standard output)")
    parser.add_argument(
        "--together", action="store_true", help="judge the lines as one exchange, with its caps (default: one by one)"
    )
    parser.add_argument(
        "--verify", action="store_true", help="drop wrong answers, too: needs --task, --public and problem ids"
    )
    parser.add_argument("--task", metavar="NAME", help="for --verify")


def run(arguments: argparse.Namespace) -> int:
    """Judge every line and print a summary on stderr. Raises SettingsError, ProblemFileError, Refused, OSError."""
    rules = load_settings(SitePolicy, arguments.policy).responses
    if arguments.output and arguments.output.exists() and arguments.output.samefile(arguments.input):
        raise SettingsError(f"--output {arguments.output}: is also the input, which would be lost")
    lines, verify = list(_lines(arguments.input)), _verifier(arguments)
    if next(texts_in(arguments.private), None) is None:
        raise ProblemFileError(f"{arguments.private}: holds no text, so every answer would seem harmless")
    index = private_index(rules, [arguments.private], [arguments.public] if arguments.public else [])
    names, presidio = site_names(rules), Presidio(rules.presidio) if rules.presidio else None

    def judged(responses: list[PublicResponse]) -> Iterator[str | None]:
        asked = frozenset(response.problem_id for response in responses)
        return broken_rules(responses, rules, Context(asked, verify, index, names=names, presidio=presidio))

    responses = [response for _, response in lines]
    broken = judged(responses) if arguments.together else (next(judged([response])) for response in responses)
    counts: Counter[str] = Counter()
    with arguments.output.open("w") if arguments.output else nullcontext(sys.stdout) as output:
        for (record, _), rule in zip(lines, broken, strict=True):
            print(json.dumps(record | {"leaves": rule is None, "rule": rule}), file=output)
            counts[rule or "leaves"] += 1
    leaves = counts.pop("leaves", 0)
    dropped = ", ".join(f"{rule} {count}" for rule, count in counts.most_common())
    print(
        f"{leaves} of {len(lines)} answers would leave" + (f"; dropped: {dropped}" if dropped else ""), file=sys.stderr
    )
    return 0


def _lines(path: Path) -> Iterator[Line]:
    for where, record in read_records(path):
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise ProblemFileError(f"{where}: expected a JSON object with a text in field text")
        if not isinstance(record.get("problem_id", ""), str):
            raise ProblemFileError(f"{where}, field problem_id: expected text")
        try:
            response = PublicResponse(record.get("problem_id", ""), record["text"])
        except ValueError:
            raise ProblemFileError(
                f"{where}: no site could send this: expected Unicode text of at most {MAX_TEXT:,} characters, and a "
                "problem_id that can be shown"
            ) from None
        yield record, response


def _verifier(arguments: argparse.Namespace) -> Callable[[PublicResponse], bool]:
    """Whether an answer is right; without --verify every one is."""
    if not arguments.verify:
        return lambda response: True
    if arguments.task is None or arguments.public is None:
        raise SettingsError("--verify: give --task and --public, a problem file with the problems that are answered")
    task = task_named(arguments.task, VerifierSettings())
    problems = {problem.id: problem for problem in read_problems(arguments.public, task)}

    def right(response: PublicResponse) -> bool:
        if response.problem_id not in problems:
            raise SettingsError(f"--verify: {arguments.public} has no problem with the id {response.problem_id!r}")
        return task.verify(problems[response.problem_id], response.text).reward >= 1.0

    return right
