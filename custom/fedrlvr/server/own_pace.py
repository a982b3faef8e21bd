"""Rounds in which nobody waits for a slow site: each works at its own pace, and takes what others have offered until
then. What a run ends in depends on who is how fast, so it does not repeat."""

from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence

from fedrlvr.algorithms.pace import Paces
from fedrlvr.algorithms.pool import pool_for
from fedrlvr.algorithms.schedule import Phase, own_problems
from fedrlvr.protocol.answers import ValidateAnswer
from fedrlvr.protocol.records import PooledResponse, PublicResponse
from fedrlvr.protocol.requests import ProposeRequest, SwapRequest, ValidateRequest
from fedrlvr.server.client_manager import Asked, Message, Talk
from fedrlvr.server.rounds import Rounds
from fedrlvr.types import Adapter

Part = Generator[Asked, object | None, bool]  # a part of a `Talk`; returns whether the site did all that was asked


class RoundsAtOwnPace(Rounds):
    """Differs from `Rounds` in what happens between two averages. A site that fails goes on with its next segment. One
    that refused, or was refused, is out until the next round."""

    def _work_through(self, phases: Sequence[Phase], start: Adapter) -> None:
        self._paces = Paces(sum(len(phase.segments) for phase in phases), list(self.sites.active))
        self._offered: list[tuple[str, PublicResponse]] = []  # in the order in which they came
        self._read: dict[str, int] = defaultdict(int)  # how many of them a site has been sent, or passed over
        self._measured: dict[int, dict[str, ValidateAnswer]] = defaultdict(dict)
        self.sites.converse({site: self._talk(site, phases, start) for site in self.sites.active})
        for segment, answers in sorted(self._measured.items()):
            self._write_evaluation("local", segment, self.config.evaluation.curve_samples, answers)

    def _talk(self, site: str, phases: Sequence[Phase], start: Adapter) -> Talk:
        """One site's way through the round, as long as it has time."""
        now = self.sites.transport.now
        self._paces.begin(site, now())
        needed = False
        for index, phase in enumerate(phases):
            if not self._paces.has_time(site, now()):
                return
            request = self._train_request(phase, index == 0, start)
            needed = needed or (bool(request.start) and site not in self._have)
            answer = yield Asked(self._message(site, request, start if needed else None), self._fitting_steps)
            went_well = answer is not None
            if went_well:
                self._write_steps({site: answer})
                self._paces.trained(site, len(phase.segments))
            if went_well and phase.exchange:
                went_well = yield from self._exchange_alone(site, phase)
            if went_well and phase.evaluate:
                went_well = yield from self._measure_alone(site, phase.last.index)
            if went_well:
                self._paces.done(site, now(), len(phase.segments))
            elif not self.sites.take_back(site):
                self._paces.out(site)
                return
            needed = not went_well  # its worker may have nothing of this round

    def _work_of(self, sites: Iterable[str]) -> dict[str, int]:
        """A slow site's update has seen fewer steps, and would hold the average back if it weighed as the others."""
        return {site: self._paces.work_of(site) for site in sites}

    def _exchange_alone(self, site: str, phase: Phase) -> Part:
        """Offer, and take what others have offered since this site's last exchange."""
        segment, envelope = phase.last, self._envelope(phase.last.index)
        propose = ProposeRequest(envelope=envelope, segment=segment)
        told = yield Asked(Message(propose), self._fitting_proposal, optional=True)
        responses = told.responses if told else []
        self._offered += [(site, response) for response in responses]
        pool = self._news(site)
        swap = SwapRequest(envelope=envelope, segment=segment, responses=pool)
        answer = yield Asked(Message(swap), self._fitting_steps)
        if answer is None:
            return False
        self._write_steps({site: answer})
        self._write_exchange(segment.index, {site: responses}, {site: pool})
        return True

    def _news(self, site: str) -> list[PooledResponse]:
        fresh, self._read[site] = self._offered[self._read[site] :], len(self._offered)
        offers: dict[str, list[PublicResponse]] = defaultdict(list)
        for sender, response in reversed(fresh):  # the newest first, as they are the closest to what sites do now
            offers[sender].append(response)
        return pool_for(site, offers, self.config.exchange)

    def _measure_alone(self, site: str, segment: int) -> Part:
        about = {"envelope": self._envelope(segment), "name": f"local {segment}", "share": None}
        samples, problems = self.config.evaluation.curve_samples, own_problems(self.config, segment)
        request = ValidateRequest(**about, samples=samples, problems=problems)
        answer = yield Asked(Message(request), self._fitting_scores)
        if answer is not None:
            self._measured[segment][site] = answer
        return answer is not None
