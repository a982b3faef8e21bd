"""What the rules for answers compare with, read from the site's own files."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fedrlvr.data.problems import ProblemFileError, parse_problem, read_records
from fedrlvr.privacy.everyday import everyday_words
from fedrlvr.privacy.overlap import PrivateIndex
from fedrlvr.privacy.pii import Names
from fedrlvr.privacy.policy import ResponseRules
from fedrlvr.protocol.refused import Refused
from fedrlvr.types import Problem


def private_index(rules: ResponseRules, private: Iterable[Path], public: Iterable[Path]) -> PrivateIndex:
    """The secrets of some files beside the public ones, which are read line by line: a million problems fit.

    Raises Refused for a language without a list of words, ProblemFileError for a file that cannot be read.
    """
    if not (rules.share and rules.compares):
        return PrivateIndex(())
    problems = (problem for path in private for problem in texts_in(path))
    known = (text for path in (*public, *rules.public_texts) for problem in texts_in(path) for text in _texts(problem))
    return PrivateIndex(problems, known, everyday_words(rules.languages), rules.ngram)


def texts_in(path: Path) -> Iterator[Problem]:
    """Each line of a problem file, or of a file of plain texts, as a problem without a check of its gold answer.

    Raises ProblemFileError for a line that is neither a problem nor an object with a `text`.
    """
    for where, record in read_records(path):
        if isinstance(record, dict) and "text" in record:
            if not isinstance(record["text"], str):
                raise ProblemFileError(f"{where}, field text: expected text, found {type(record['text']).__name__}")
            yield Problem(where, record["text"], "")
        else:
            yield parse_problem(record, where)


def site_names(rules: ResponseRules) -> Names | None:
    """The site's list of names, None where it has none. Raises Refused for a file that is not text."""
    path = rules.names
    try:
        return Names(path.read_text(encoding="utf-8").splitlines()) if path else None
    except (OSError, UnicodeDecodeError):
        raise Refused(f"responses.names: {path} cannot be read as text") from None


def _texts(problem: Problem) -> tuple[str, ...]:
    return (problem.prompt, *(message.content for message in problem.messages), *problem.choices, problem.answer)
