"""How far a site is, and all that it needs to go on from there."""

from dataclasses import dataclass, field

from fedrlvr.protocol.records import PooledResponse, PublicResponse
from fedrlvr.types import Adapter


@dataclass(frozen=True, order=True)
class SiteProgress:
    """How far a site is: the round it is in (-1: before the first), how many of the job's segments are done, and
    whether only the public step of the next one is missing. Further is greater."""

    round: int = -1
    segments: int = 0
    public_pending: bool = False


@dataclass(frozen=True)
class TrainerState:
    """All that a trainer knows. `optimizer` is this rank's share; `start` is the adapter that the round began with,
    `given` whether the server sent it. `targets` are the last right shares, by public problem, of the mean site;
    `found` and `unsolved` are its `Notes`."""

    progress: SiteProgress
    given: bool
    adapter: Adapter
    start: Adapter
    optimizer: dict
    pool: list[PooledResponse]
    targets: dict[str, float] = field(default_factory=dict)
    found: list[PublicResponse] = field(default_factory=list)
    unsolved: list[str] = field(default_factory=list)
