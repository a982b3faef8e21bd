"""The records that requests and answers carry."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator
from pydantic.dataclasses import dataclass

import fedrlvr
from fedrlvr.config import MOST_SEGMENTS
from fedrlvr.printable import check_name
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.strict import STRICT, Strict
from fedrlvr.types import MAX_LABELS, VARIANTS
from fedrlvr.version import PROTOCOL, source_hash

MAX_TEXT = 100_000  # characters of one answer
MAX_TOKENS = 4 * MAX_TEXT + 1  # of one answer: a character is at most four bytes; and the end
MAX_ASKED = 10_000  # public problems of one step
MAX_POOLED = 100_000  # answers of others that a site gets at once
MAX_PROBLEMS = 10_000_000  # of one label
MAX_METRICS = 200  # of one step
MAX_TENSORS = 100_000
MAX_DIMENSION = 2**24  # of a tensor: well above any vocabulary
MAX_METRIC = 1e30  # beyond it, sums over steps and sites would overflow

# Of a site, a problem, a label, a tensor: whatever is quoted in errors, shown in tables and drawn in pictures.
Name = Annotated[str, AfterValidator(check_name)]
Word = Annotated[str, Field(max_length=128), AfterValidator(check_name)]
Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]  # a SHA-256, or ""
Receipt = Digest  # of a line of a site's egress log
Count = Annotated[int, Field(ge=0, le=MOST_SEGMENTS)]

_METRIC = re.compile(r"[a-z_]+(/[a-z_]+)?")
_PASS = re.compile(r"pass@[1-9][0-9]*")
RESERVED = {"event", "time", "round", "site", "self", "kind", "segment"}  # fields of the event that a step becomes
NEEDED = {"reward", "live_groups", "groups"}


def check_same_code(envelope: object) -> None:
    """Look at a request's envelope before anything else of it is read, as other code may write other requests. Raises
    Refused where there is none, or one of other code than ours, with both values."""
    if not isinstance(envelope, dict):
        raise Refused("the message has no fedrlvr envelope")
    _check_same(envelope, _code())


def _code() -> dict:
    return {"protocol": PROTOCOL, "version": fedrlvr.__version__, "source": source_hash()}


def _check_same(there: Mapping, here: Mapping) -> None:
    """Raises Refused, with both values, where what the message says differs from what this side has."""
    for field, own in here.items():
        if there.get(field) != own:
            said = repr(there.get(field))[:80]
            raise Refused(f"{field} differs: the message says {said}, this side has {own!r}")


class Envelope(Strict):
    """The sender's code, the hash of its public problems, and the place in the run. The server fills it in, and the
    answer of a site repeats it.

    `round` counts from 0; -1 is before the first.
    """

    protocol: int
    version: Word
    source: Word
    public_sha256: Word
    round: Annotated[int, Field(ge=-1, le=MOST_SEGMENTS)]
    segment: Count

    @classmethod
    def here(cls, public_sha256: str, round_number: int = -1, segment: int = 0) -> Self:
        """What this side says of itself."""
        return cls(**_code(), public_sha256=public_sha256, round=round_number, segment=segment)

    def check_same(self, other: Self) -> None:
        """Raises Refused where the other side runs other code, has other public problems or is at another place."""
        _check_same(other.model_dump(), self.model_dump())


@dataclass(frozen=True, config=STRICT)
class Segment:
    """`index` counts from 0 over the whole job; `public_ids` are the problems of its public step, () = none."""

    index: Count
    private_steps: Count
    public_ids: Annotated[tuple[Name, ...], Field(max_length=MAX_ASKED)]


Logprob = Annotated[float, Field(ge=-MAX_METRIC, le=0)]
Logprobs = Annotated[tuple[Logprob, ...], Field(max_length=MAX_TOKENS, exclude_if=lambda logprobs: not logprobs)]


@dataclass(frozen=True, config=STRICT)
class PublicResponse:
    """A right answer to a public problem: all that a site says of it to others. `variant` is the presentation of the
    problem that it answers. `logprobs`, () where the job does not ask for them, are those of the tokens that everybody
    makes of the text and its end, under the sender's policy; they do not make it another answer."""

    problem_id: Name
    text: Annotated[str, Field(max_length=MAX_TEXT)]
    variant: Annotated[int, Field(ge=0, lt=VARIANTS)] = 0
    logprobs: Logprobs = dataclasses.field(default=(), compare=False)


# What other sites get: the site that an answer is of, and the answer as that site sent it.
PooledResponse = tuple[Name, PublicResponse]


class StepRecord(Strict):
    """One training step in numbers. Names are TRL's where TRL has one."""

    kind: Literal["private", "public"]
    segment: Count
    metrics: Annotated[
        dict[Word, Annotated[float, Field(ge=-MAX_METRIC, le=MAX_METRIC)]], Field(max_length=MAX_METRICS)
    ]

    @field_validator("metrics")
    @classmethod
    def _plain_names(cls, metrics: dict[str, float]) -> dict[str, float]:
        for name in metrics:
            if not _METRIC.fullmatch(name) or name in RESERVED:
                raise ValueError("a metric's name must be plain, such as swap/fraction, and not one that events use")
        if not set(metrics) >= NEEDED:
            raise ValueError(f"a step needs {', '.join(sorted(NEEDED))}")
        return metrics

    @classmethod
    def of(cls, kind: Literal["private", "public"], segment: int, metrics: Mapping[str, float]) -> Self:
        """The record of a step that was taken; numbers that are not finite, or nearly so, are left out and counted."""
        finite = {name: value for name, value in metrics.items() if abs(value) <= MAX_METRIC}
        if len(finite) < len(metrics):
            finite["not_finite"] = float(len(metrics) - len(finite))
        return cls(kind=kind, segment=segment, metrics=finite)


def _check_label_scores(scores: dict[str, float]) -> dict[str, float]:
    problems = scores.get("problems", 0.0)
    if "pass@1" not in scores or not (1 <= problems <= MAX_PROBLEMS and problems == int(problems)):
        raise ValueError("a label's scores must hold pass@1 and a whole number of problems")
    for name in set(scores) - {"problems"}:
        if not _PASS.fullmatch(name) or not 0 <= scores[name] <= 1:
            raise ValueError("a label's scores must be pass@k between 0 and 1")
    return scores


def _check_labels(scores: dict) -> dict:
    if "overall" in scores:
        raise ValueError("a label must not be the word for all of them, overall")
    return scores


LabelScores = Annotated[dict[str, float], AfterValidator(_check_label_scores)]
# label -> {"problems": how many, "pass@k": their mean}
Scores = Annotated[dict[Name, LabelScores], Field(max_length=MAX_LABELS), AfterValidator(_check_labels)]


Share = Annotated[float, Field(ge=0, le=1)]
RightShares = Annotated[dict[Name, Share], Field(max_length=MAX_ASKED)]  # by public problem


class Findings(Strict):
    """What a site can tell of public problems between exchanges: those that it has right answers to and has not offered
    yet, and those that it could not solve last, with its pool or without."""

    found: Annotated[list[Name], Field(max_length=MAX_ASKED)]
    unsolved: Annotated[list[Name], Field(max_length=MAX_ASKED)]


class SiteScores(Strict):
    """pass@k of one adapter at one site, by label: on its part of the test set, and on its own held-out problems.
    `unanswered` and `cut_off` are the shares of the completions of test problems that had nothing to judge, and that
    were cut off."""

    test: Scores
    heldout: Annotated[Scores, Field(min_length=1)] | None = None
    unanswered: Share = 0.0
    cut_off: Share = 0.0


Dimension = Annotated[int, Field(ge=1, le=MAX_DIMENSION)]
AdapterSpec = Annotated[
    dict[Name, Annotated[list[Dimension], Field(min_length=2, max_length=2)]],
    Field(min_length=1, max_length=MAX_TENSORS),
]  # tensor name -> its shape
