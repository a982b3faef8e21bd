"""What happens in a round, decided before it starts: private steps, public steps, exchanges, evaluations.

A round of `segments_per_round` segments is cut into *phases*, in which no site needs to hear from another.
"""

from dataclasses import dataclass
from math import lcm

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.config import JobConfig
from fedrlvr.protocol.records import Segment
from fedrlvr.streams import epoch_batch


@dataclass(frozen=True)
class Phase:
    """Segments that a site works through in one go. With `exchange`, the last public step waits for others' answers;
    where the schedule is adaptive, it may: the server decides when it comes to it."""

    segments: tuple[Segment, ...]
    exchange: bool
    evaluate: bool

    @property
    def last(self) -> Segment:
        return self.segments[-1]


def plan_round(config: JobConfig, round_number: int, public_ids: list[str]) -> list[Phase]:
    """The phases of one round. A phase ends at an exchange, an evaluation, `segments_per_task`, or the round's end.
    Where sites go at their own pace, each segment is a phase, so that a slow site can leave out the last ones."""
    per_round, every = config.federation.segments_per_round, config.evaluation.every_segments
    schedule, last = config.exchange.schedule, (round_number + 1) * per_round - 1
    at_once = 1 if config.federation.pace == "own" else config.federation.segments_per_task
    phases, current = [], []
    for index in range(round_number * per_round, last + 1):
        current.append(_segment(config, index, public_ids))
        exchange = METHODS[config.method].exchange and (isinstance(schedule, str) or index in schedule)
        evaluate = every is not None and (index + 1) % every == 0 and index != last
        if exchange or evaluate or index == last or len(current) == at_once:
            phases.append(Phase(tuple(current), exchange, evaluate))
            current = []
    return phases


def steps_per_segment(config: JobConfig) -> int:
    """GRPO steps (sampled batches) of a segment: the private ones and the public one, or a private one in its place."""
    return config.federation.local_steps + 1


def planned_steps(config: JobConfig) -> int:
    """GRPO steps of a site over the whole job."""
    return config.total_segments * steps_per_segment(config)


def planned_private_steps(config: JobConfig) -> int:
    """Private steps of a site over the whole job."""
    public = METHODS[config.method].public_step
    return config.total_segments * (config.federation.local_steps + (not public))


def own_problems(config: JobConfig, segment: int) -> int | None:
    """On how many test problems a site measures its own adapter after this segment; None: all of them, as the method's
    results are about them where nothing is averaged."""
    ends_a_round = (segment + 1) % config.federation.segments_per_round == 0
    return None if ends_a_round and not METHODS[config.method].average else config.evaluation.own_problems


def planned_evaluations(config: JobConfig) -> int:
    """How often pass@k is measured at a site over the whole job: the base model, and in each round the site's own
    adapter, the averaged one, and what `every_segments` adds."""
    every, last = config.evaluation.every_segments, config.total_segments - 1
    between = last // every - last // lcm(every, config.federation.segments_per_round) if every else 0
    return 1 + config.federation.rounds * (1 + METHODS[config.method].average) + between


def _segment(config: JobConfig, index: int, public_ids: list[str]) -> Segment:
    if not METHODS[config.method].public_step:
        return Segment(index, steps_per_segment(config), ())
    batch = epoch_batch(public_ids, index, config.exchange.prompts_per_step, config.seed, "public batch")
    return Segment(index, config.federation.local_steps, tuple(batch))
