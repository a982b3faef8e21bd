"""What a site's worker answers, and what of it the server gets."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field

from fedrlvr.config import MOST_STEPS
from fedrlvr.printable import one_line
from fedrlvr.protocol.records import (
    AdapterSpec,
    Envelope,
    Findings,
    PublicResponse,
    Receipt,
    RightShares,
    SiteScores,
    StepRecord,
)
from fedrlvr.protocol.refused import NotAgreed
from fedrlvr.protocol.strict import Strict
from fedrlvr.types import Adapter

MAX_FAILURE = 2000  # characters
FOLDERS = re.compile(r"/(?:[^/\s:,;'\"]+/)+")  # of a file's path: what stands before its name

Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Answer(Strict):
    """What all answers have: the request's envelope, how many seconds the site worked, and a receipt for its line in
    the site's egress log. The site fills in the last two, or leaves them 0 and ""."""

    envelope: Envelope
    seconds: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    receipt: Receipt = ""

    def payload(self) -> dict:
        """What the answer says, as plain data; the rest travels beside that."""
        return self.model_dump(mode="json", exclude={"envelope", "seconds", "receipt"}, exclude_none=True)


class StepsAnswer(Answer):
    """Of train and swap: a record of every step that was taken. `findings` are None where the job does not ask, or the
    site keeps them."""

    steps: Annotated[list[StepRecord], Field(max_length=MOST_STEPS)]
    findings: Findings | None = None


class ProposeAnswer(Answer):
    """Right answers to the public problems that were asked. `shares` say what part of the site's completions to each
    was right; None where the job does not ask, or the site keeps them."""

    responses: list[PublicResponse]
    shares: RightShares | None = None


class SubmitAnswer(Answer):
    """The adapter's difference travels beside it."""


class ValidateAnswer(Answer):
    """Scores; and by names and shapes of its adapter, and by fingerprint, which model the site has."""

    scores: SiteScores
    adapter_spec: AdapterSpec
    base_model: Fingerprint


ANSWERS: dict[str, type[Answer]] = {
    "train": StepsAnswer,
    "propose": ProposeAnswer,
    "swap": StepsAnswer,
    "submit": SubmitAnswer,
    "validate": ValidateAnswer,
}


class Failure(Strict):
    """In place of an answer. `would_not`: the site refuses, for a reason that lies in the request or the job;
    otherwise it tried and could not, and may be able to do the next thing."""

    reason: Annotated[str, Field(max_length=MAX_FAILURE), AfterValidator(one_line)]
    would_not: bool = False

    @classmethod
    def of(cls, reason: object, would_not: bool = False) -> Self:
        """The reason without folders, which are the site's business, on one line and not too long."""
        return cls(reason=one_line(FOLDERS.sub("", str(reason)))[:MAX_FAILURE], would_not=would_not)

    @classmethod
    def by(cls, error: Exception) -> Self:
        """Of what went wrong in a worker. Of all that it raises, only `NotAgreed` is a refusal, whose reason is always
        sent: others may quote what is the site's own."""
        if isinstance(error, NotAgreed):
            return cls.of(error, would_not=True)
        return cls.of(f"{type(error).__name__}: {error}")


Reply = tuple[Answer | Failure, Adapter | None]
