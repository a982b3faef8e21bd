"""A run's event log, as somebody may have cut it or changed it: what fits the form of an event, and what was left out.

In production the log is the server's, so no event is believed before it has been checked. What `report.summary` makes
of checked events needs no more checks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from fedrlvr.config import MOST_SEGMENTS, Method
from fedrlvr.data.problems import lines_in
from fedrlvr.json_text import JsonError, from_json
from fedrlvr.protocol.records import MAX_METRIC, Count, Name, SiteScores
from fedrlvr.run import Environment, server_folder_of
from fedrlvr.server.event_log import EVENTS_FILE

Number = Annotated[float, Field(ge=-MAX_METRIC, le=MAX_METRIC)]
Seconds = Annotated[float, Field(ge=0, le=MAX_METRIC)]
Whole = Annotated[int, Field(ge=0, le=10**18)]
Round = Annotated[int, Field(ge=-1, le=MOST_SEGMENTS)]
Positive = Annotated[int, Field(ge=1, le=MOST_SEGMENTS)]
MOST_NAMED = 10  # left-out lines that are named


class NoEvents(ValueError):
    """There is no run to tell of."""


class _Event(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    time: Seconds = 0.0


class _Begins(_Event):
    method: Method
    sites: Annotated[list[Name], Field(min_length=1, max_length=10_000)]
    rounds: Positive
    segments: Positive
    steps: Whole = 0
    seed: int

    @model_validator(mode="after")
    def _whole_rounds(self):
        if self.segments % self.rounds:
            raise ValueError("every round has as many segments")
        if len({*self.sites}) < len(self.sites):
            raise ValueError("a site stands there twice")
        return self


class _Start(_Begins):
    event: Literal["start"]


class _Resumed(_Begins):
    event: Literal["resumed"]
    after: Count


class _Step(_Event):
    __pydantic_extra__: dict[str, Number] = Field(init=False)
    event: Literal["step"]
    round: Round
    site: Name
    kind: Literal["private", "public"]
    segment: Count
    reward: Number
    live_groups: Number
    groups: Number


class _Evaluation(_Event):
    event: Literal["evaluation"]
    which: Literal["base", "local", "global"]
    round: Round
    segment: Count
    samples: Positive
    scores: Annotated[dict[Name, SiteScores], Field(min_length=1)]

    @model_validator(mode="after")
    def _something_measured(self):
        measured = [bool(scores.test) for scores in self.scores.values()]
        if not (all if self.which == "local" else any)(measured):
            raise ValueError("nothing was measured")
        return self


class _Exchange(_Event):
    event: Literal["exchange"]
    segment: Count
    offered: Whole
    bytes_up: dict[Name, Whole]
    bytes_down: dict[Name, Whole]
    offers: dict[Name, dict[Name, Whole]] = {}
    pools: dict[Name, dict[Name, Whole]] = {}


class _Average(_Event):
    event: Literal["average"]
    round: Round
    sites: list[Name]
    bytes_up: dict[Name, Whole]


class _AdapterDown(_Event):
    event: Literal["adapter_down"]
    bytes: dict[Name, Whole]


class _Failure(_Event):
    event: Literal["failure"]
    site: Name
    task: Name
    reason: str
    out_of: Literal["segment", "round"] | None = None


class _Asked(_Event):
    event: Literal["asked"]
    site: Name
    task: Name
    round: Round
    segment: Count


class _Answered(_Event):
    event: Literal["answered"]
    site: Name
    task: Name


class _Late(_Event):
    event: Literal["late"]
    site: Name
    task: Name


class _Back(_Event):
    event: Literal["back"]
    sites: list[Name]


class _Undecided(_Event):
    event: Literal["undecided"]


class _RoundDone(_Event):
    event: Literal["round"]
    round: Round


class _Stopped(_Event):
    event: Literal["stopped"]
    reason: str | None = None


class _End(_Event):
    event: Literal["end"]
    asking_seconds: Seconds = 0.0
    site_seconds: dict[Name, Seconds] = {}


_Known = Annotated[
    _Start | _Resumed | _Asked | _Answered | _Step | _Evaluation | _Exchange | _Average | _AdapterDown | _Failure
    | _Late | _Back | _Undecided | _RoundDone | _Stopped | _End,
    Field(discriminator="event"),
]  # fmt: skip
_FORM = TypeAdapter(_Known)
KINDS = {get_args(model.model_fields["event"].annotation)[0] for model in get_args(get_args(_Known)[0])}


@dataclass(frozen=True)
class Log:
    """`events` have the form that this version writes. `left_out` says of other lines which they are and why; `cut`,
    whether the file ends within a line."""

    events: list[dict]
    left_out: list[str] = field(default_factory=list)
    cut: bool = False

    def notes(self) -> list[str]:
        """What a reader has to know of the log, in sentences."""
        said = []
        if self.cut:
            said.append("The event log ends in the middle of a line, so it was cut. What is complete is shown.")
        if self.left_out:
            named = "; ".join(self.left_out[:MOST_NAMED])
            more = len(self.left_out) - MOST_NAMED
            said.append(
                f"{len(self.left_out)} lines of the event log are not events of this version, and are left out: "
                f"{named}{f'; and {more} more' if more > 0 else ''}."
            )
        return said


def read_log(path: Path) -> Log:
    """Raises NoEvents where no event says what ran, and OSError or ProblemFileError for a file that cannot be read."""
    events, left_out, cut = [], [], False
    for number, line in lines_in(path):
        if not line.endswith(b"\n"):
            cut = True
            break
        if not line.strip():
            continue
        try:
            events.append(checked(from_json(line)))
        except (JsonError, ValueError) as error:
            left_out.append(f"line {number} ({error})")
    if not any(event["event"] in ("start", "resumed") for event in events):
        raise NoEvents(f"{path}: has no event that says what was started, so there is no run to report")
    return Log(events, left_out, cut)


def checked(value: object) -> dict:
    """The same event, without fields that are null. Raises ValueError, which quotes no value, where it is none."""
    if not isinstance(value, dict) or not isinstance(value.get("event"), str):
        raise ValueError("not an event")
    if value["event"] not in KINDS:
        raise ValueError("an event of another kind")
    try:
        return _FORM.validate_python(value).model_dump(exclude_unset=True, exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part)[:80] for part in first["loc"][1:] if part != "[key]")
        reason = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{value['event']}{', ' if field else ''}{field}: {reason}") from None


def log_of(folder: Path) -> Path:
    """The run's newest event log: the one that its end has left, or else the one that the server writes. Raises
    NoEvents."""
    if not folder.is_dir():
        raise NoEvents(f"{folder}: no such folder; expected that of a run, such as workspace/demo-pubswap-seed0")
    found = [path for path in _places(folder) if path.is_file()]
    if not found:
        raise NoEvents(
            f"{folder}: holds no {EVENTS_FILE}; expected the folder of a run that has begun, such as "
            "workspace/demo-pubswap-seed0"
        )
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def _places(folder: Path) -> Iterator[Path]:
    yield folder / EVENTS_FILE
    for environment in get_args(Environment):
        yield from folder.glob(str(server_folder_of(Path(), environment, "*") / EVENTS_FILE))
