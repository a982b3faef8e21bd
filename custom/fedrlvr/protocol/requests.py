"""What a site lets a server tell it to do. Whole or not at all: a field more, or one of another type, is refused.

What a task costs is worked out from the numbers that the worker then goes by, so each must mean one thing only.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, field_validator

from fedrlvr.config import Settings
from fedrlvr.privacy.guards import MAX_TEXT, Refused
from fedrlvr.settings_file import SettingsError, validate_settings
from fedrlvr.tasks.task import VARIANTS

Count = Annotated[int, Field(ge=0, le=100_000)]
Name = Annotated[str, Field(max_length=1000)]


class Instructions(Settings):
    """Of any task: the round that it belongs to, -1 before the first. Strict: neither true nor 1.0 is 1."""

    model_config = ConfigDict(strict=True)

    round: Annotated[int, Field(ge=-1, le=100_000)]


class SegmentOrder(Settings):
    model_config = ConfigDict(strict=True)

    index: Count
    private_steps: Count
    public_ids: Annotated[tuple[Name, ...], Field(max_length=10_000, strict=False)]


class OfferedAnswer(Settings):
    model_config = ConfigDict(strict=True)

    problem_id: Name
    text: Annotated[str, Field(max_length=MAX_TEXT)]
    site: Name
    variant: Annotated[int, Field(ge=0, lt=VARIANTS)]


class TrainOrder(Instructions):
    segments: Annotated[list[SegmentOrder], Field(min_length=1, max_length=10_000)]
    exchange: bool
    begin_round: bool
    adapter_spec: Name | None = None


class ProposeOrder(Instructions):
    segments: Annotated[list[SegmentOrder], Field(min_length=1, max_length=1)]


class SwapOrder(ProposeOrder):
    responses: Annotated[list[OfferedAnswer], Field(max_length=100_000)]


class ValidateOrder(Instructions):
    """`share` is (i, n), the i-th of n blocks."""

    samples: Annotated[int, Field(ge=1, le=10_000)]
    share: Annotated[list[Count], Field(min_length=2, max_length=2)] | None
    name: Name

    @field_validator("share")
    @classmethod
    def _a_block_that_there_is(cls, share: list[int] | None) -> list[int] | None:
        if share is not None and share[0] >= share[1]:
            raise ValueError("there is no such block")
        return share


ORDERS: dict[str, type[Instructions]] = {
    "train": TrainOrder,
    "propose": ProposeOrder,
    "swap": SwapOrder,
    "submit": Instructions,
    "validate": ValidateOrder,
}


def check_instructions(task: str, instructions: dict) -> dict:
    """The instructions, if they are exactly those of `task`.

    Raises:
        Refused: naming the field and what was expected.
    """
    if task not in ORDERS:
        raise Refused(f"no task is called {task[:80]!r}; known: {', '.join(ORDERS)}")
    try:
        return validate_settings(ORDERS[task], instructions, f"instructions of {task}").model_dump()
    except SettingsError as error:
        raise Refused(str(error)[:500]) from None
