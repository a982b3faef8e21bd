"""What a server asks of a site. The same five models go from the server to the site and on to its worker.

What a task costs is worked out from these numbers, so each of them must mean one thing only. `ANSWERS` in `answers.py`
says which answer belongs to which request.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from fedrlvr.config import MOST_STEPS
from fedrlvr.protocol.records import (
    MAX_ASKED,
    MAX_POOLED,
    Count,
    Digest,
    Envelope,
    Name,
    PooledResponse,
    Receipt,
    RightShares,
    Segment,
)
from fedrlvr.protocol.strict import Strict


class Request(Strict):
    """What all requests have: the place in the run that they belong to, and the last receipt that the server has from
    the site ("" for none)."""

    task: ClassVar[str]
    envelope: Envelope
    receipt: Receipt = ""


class TrainRequest(Request):
    """Work through `segments`. With `exchange` the last one's public step waits for a swap. `begin_round` begins the
    round. Its first adapter travels beside it, or is the one with the hash `start`, which the site was sent last to
    measure it; with neither, the site goes on with its own. `adapter_spec` is the hash of names, shapes and LoRA
    settings that the server goes by."""

    task: ClassVar[str] = "train"
    segments: Annotated[list[Segment], Field(min_length=1, max_length=MOST_STEPS)]
    exchange: bool
    begin_round: bool
    adapter_spec: Name
    start: Digest = ""


class ProposeRequest(Request):
    """Answer the segment's public problems and offer the right answers; or those to `wanted` problems, that the site
    has found since they were asked for last."""

    task: ClassVar[str] = "propose"
    segment: Segment
    wanted: Annotated[list[Name], Field(max_length=MAX_ASKED)] = Field(
        default_factory=list, exclude_if=lambda wanted: not wanted
    )

    @property
    def asked(self) -> set[str]:
        """The problems that answers may be to."""
        return set(self.wanted or self.segment.public_ids)


class SwapRequest(Request):
    """Take the segment's public step, with others' answers in place of own wrong ones. `targets` are the means over the
    sites of what they told of their right shares; {} where the job does not ask for these."""

    task: ClassVar[str] = "swap"
    segment: Segment
    responses: Annotated[list[PooledResponse], Field(max_length=MAX_POOLED)]
    targets: RightShares = Field(default_factory=dict, exclude_if=lambda targets: not targets)

    @model_validator(mode="after")
    def _of_what_was_asked(self) -> Self:
        if not self.targets.keys() <= {*self.segment.public_ids}:
            raise ValueError("a target is of a problem that is not in the segment")
        return self


class SubmitRequest(Request):
    """Send the adapter's difference to the round's start."""

    task: ClassVar[str] = "submit"


class ValidateRequest(Request):
    """Measure pass@k of the adapter that travels beside it, or of the site's own; before the first round, of the base
    model. `share` is (i, n): the i-th of n blocks of the test set; None: no held-out problems, and of the test set so
    many `problems` (None: all), the same at every site. `name` names the random numbers."""

    task: ClassVar[str] = "validate"
    samples: Annotated[int, Field(ge=1, le=10_000)]
    share: tuple[Count, Count] | None
    name: Name
    problems: Annotated[int, Field(ge=1)] | None = None

    @field_validator("share")
    @classmethod
    def _a_block_that_there_is(cls, share: tuple[int, int] | None) -> tuple[int, int] | None:
        if share is not None and share[0] >= share[1]:
            raise ValueError("there is no such block")
        return share


def places_to_measure(
    labels: Sequence[str], share: tuple[int, int] | None, problems: int | None = None
) -> Sequence[int]:
    """Where in the test set, of whose problems these are the labels, the problems of a `ValidateRequest` stand. Of each
    label they are as large a part as of all."""
    if share is None and problems is not None:
        by_label = sorted(range(len(labels)), key=labels.__getitem__)
        count = min(problems, len(labels))
        return sorted(by_label[i * len(labels) // count] for i in range(count))
    block, blocks = share or (0, 1)
    return range(len(labels) * block // blocks, len(labels) * (block + 1) // blocks)


REQUESTS: dict[str, type[Request]] = {
    request.task: request for request in (TrainRequest, ProposeRequest, SwapRequest, SubmitRequest, ValidateRequest)
}
