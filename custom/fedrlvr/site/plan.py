"""What a server may ask of a site: what the job that the site was shown plans, in its order, and each thing once.

It is the site's own copy of what `server/rounds.py` asks. Without it, a server could have one private problem trained
on forty times, or collect three adapters a round and learn from their differences.
"""

from collections.abc import Hashable

from fedrlvr.algorithms.methods import METHODS, asks_findings, asks_logprobs, asks_shares
from fedrlvr.algorithms.schedule import own_problems, plan_round
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import ProposeRequest, Request, SubmitRequest, SwapRequest, TrainRequest, ValidateRequest
from fedrlvr.protocol.run_spec import RunSpec


class SitePlan:
    """`private_steps` are those of the current round that the site has taken."""

    def __init__(self, spec: RunSpec):
        self._spec, self._adaptive = spec, asks_findings(spec.job)
        self._exchanging: int | None = None  # the segment whose public step waits for an exchange
        self._round, self._next = -1, 0  # before the first round
        self._planned = [_measure("base", 0, spec.job.evaluation.samples)]
        self.private_steps = 0

    def admit(self, request: Request, with_adapter: bool) -> None:
        """Go on to this request, beside which an adapter came or not. A site may miss a part of the plan, so requests
        may be left out, but none comes twice or late. Raises Refused for one that is not planned, or whose turn has
        passed."""
        number, wanted = request.envelope.round, _wanted(request, with_adapter, self._adaptive)
        if number < self._round:
            raise Refused(f"round {number}: this site is in round {self._round} already")
        planned, first = (self._planned, self._next) if number == self._round else (self._plan(number), 0)
        if wanted not in planned:
            raise Refused(f"{_in_words(request)} is not in the plan of this job")
        if wanted not in planned[first:]:
            raise Refused(f"{_in_words(request)} was asked for already, or something that comes after it")
        if isinstance(request, SwapRequest):
            self._check_asked(request)
        if isinstance(request, ProposeRequest | SwapRequest):
            self._check_exchanged(request)
        if number != self._round:
            self.private_steps = 0
        if isinstance(request, TrainRequest):
            self._exchanging = request.envelope.segment if request.exchange else None
        self._round, self._planned, self._next = number, planned, planned.index(wanted) + 1

    def _check_asked(self, request: SwapRequest) -> None:
        """Raises Refused for what comes beside the answers, and the job does not ask of any site."""
        if request.targets and not asks_shares(self._spec.job):
            raise Refused("targets came, which a job with its method and swap.rule does not use")
        if any(response.logprobs for _, response in request.responses) and not asks_logprobs(self._spec.job):
            raise Refused("log-probabilities came, which a job with its method and swap.off_policy does not use")

    def _check_exchanged(self, request: ProposeRequest | SwapRequest) -> None:
        """Raises Refused for an exchange where the step was taken without one, and for answers to other problems than
        the step's own, unless the schedule is adaptive: then the server says to which."""
        if self._adaptive and self._exchanging != request.envelope.segment:
            raise Refused(f"{_in_words(request)} does not follow a train with an exchange")
        if isinstance(request, ProposeRequest):
            public = set(self._spec.public_ids)
            fits = bool(request.wanted) and public.issuperset(request.wanted) if self._adaptive else not request.wanted
            if not fits:
                raise Refused("answers are wanted that this job does not ask for: problems or schedule are others")

    def count(self, request: Request) -> None:
        """The site has done what the request asked."""
        if isinstance(request, TrainRequest):
            self.private_steps += sum(segment.private_steps for segment in request.segments)

    def _plan(self, number: int) -> list[Hashable]:
        """All requests of one round, as `_wanted` describes them."""
        job, average = self._spec.job, METHODS[self._spec.job.method].average
        samples, last = job.evaluation.samples, (number + 1) * job.federation.segments_per_round - 1
        after = _measure("global", last, samples, True) if average else _measure("base", 0, samples, True)
        if number >= job.federation.rounds:
            if not self._spec.resume:
                raise Refused(f"round {number}: the job has {job.federation.rounds} rounds, counted from 0")
            return [after]  # an earlier job had more rounds: what the server kept is measured once more
        planned: list[Hashable] = []
        for index, phase in enumerate(plan_round(job, number, list(self._spec.public_ids))):
            end = phase.last
            exchange = phase.exchange and not asks_findings(job)
            planned.append(("train", end.index, phase.segments, exchange, index == 0))
            if phase.exchange:
                planned += [("propose", end.index, end), ("swap", end.index, end)]
            if phase.evaluate:
                planned.append(self._measure_own(end.index, job.evaluation.curve_samples))
        planned.append(self._measure_own(last, samples))
        if average:
            planned += [("submit", last), after]
        elif self._spec.resume:  # a server that goes on after this round begins with what it kept of it
            planned.append(after)
        return planned

    def _measure_own(self, segment: int, samples: int) -> Hashable:
        return _measure("local", segment, samples, problems=own_problems(self._spec.job, segment))


def _measure(
    which: str, segment: int, samples: int, with_adapter: bool = False, problems: int | None = None
) -> Hashable:
    return "validate", segment, f"{which} {segment}", samples, which != "local", problems, with_adapter


def _wanted(request: Request, with_adapter: bool, adaptive: bool) -> Hashable:
    """What the plan decides about a request; the rest is data that travels with it. Where the schedule is `adaptive`,
    the server decides which steps begin with an exchange. Raises Refused."""
    place = request.task, request.envelope.segment
    if with_adapter and not isinstance(request, TrainRequest | ValidateRequest):
        raise Refused(f"an adapter came beside {request.task}, which takes none")
    match request:
        case TrainRequest():
            return *place, tuple(request.segments), request.exchange and not adaptive, request.begin_round
        case ProposeRequest() | SwapRequest():
            return *place, request.segment
        case ValidateRequest():
            return *place, request.name, request.samples, request.share is not None, request.problems, with_adapter
        case SubmitRequest():
            return place
    raise Refused(f"unknown task {request.task!r}")


def _in_words(request: Request) -> str:
    return f"{request.task} of round {request.envelope.round}, segment {request.envelope.segment},"
