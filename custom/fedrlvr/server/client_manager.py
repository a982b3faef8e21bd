"""The server's side of talking to the sites: ask several at once, wait, sort answers from failures, keep the quorum."""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from fedrlvr.printable import printable
from fedrlvr.protocol.answers import Failure, Reply
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import Request
from fedrlvr.types import Adapter

LOGGER = logging.getLogger(__name__)
POLL = 0.05  # seconds between looks at the clock, the abort signal and FLARE's time-outs
GONE = "the site is gone: FLARE has not heard of its job for too long"


class QuorumLost(RuntimeError):
    """Fewer sites than `federation.min_sites` are left in this round; the message has the last failure of each."""


class RunAborted(RuntimeError):
    """The job's abort signal was seen."""


class Message(NamedTuple):
    request: Request
    adapter: Adapter | None = None  # travels beside it


class PendingTask(Protocol):
    """A request that was sent to one site."""

    fetched: bool  # the site came for it
    ended: str | None  # None while it waits for an answer; then how it ended, in the transport's words
    site_died: bool  # it ended because the transport lost the site

    def reply(self) -> Reply | None:
        """What came back; None if nothing did. Raises Refused for something that is no answer to this request."""


class Transport(Protocol):
    """How requests reach the sites: FLARE, or this process itself."""

    sites: list[str]  # the names of all sites of the job, sorted
    aborted: bool  # the job is to end now

    def send(self, site: str, message: Message, timeout: float, changed: Callable[[], None]) -> PendingTask:
        """Send the message. Returns at once, or when the task is over. `changed` is called, from any thread, when an
        answer came."""

    def withdraw(self, task: PendingTask) -> None:
        """Take back a task that the site never came for."""

    def is_gone(self, site: str) -> bool:
        """Whether the transport knows that the site is lost."""


@dataclass(frozen=True)
class Patience:
    """In seconds."""

    task: float  # how long to wait for the answer of a site whose worker runs
    first_task: float  # the same where a worker may have to be started first
    pickup: float  # until when a site must have come for a task


@dataclass
class ClientManager:
    """Knows which sites take part. `active` are those of the current segment. A site that could not do its task is
    asked again with the next segment (`returning` until then). A site that refused, was refused or never came is out
    until the next round. A site that is gone is not asked. `receipts` are the last ones of the sites' egress logs; each
    goes back to its site, which notices by it when its records were exchanged for older ones.
    """

    transport: Transport
    min_sites: int
    patience: Patience
    on_failure: Callable[..., None]
    active: list[str] = field(default_factory=list)
    returning: list[str] = field(default_factory=list)
    failures: list[dict] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    asking_seconds: float = 0.0
    _at_work: set[str] = field(default_factory=set)  # have answered since they began, or since they failed
    _absent: set[str] = field(default_factory=set)  # did not come for their last task
    _changed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self.names = list(self.transport.sites)

    def exclude(self, site: str, task: str, reason: str) -> None:
        """Count a failure, and leave the site out for the rest of the job."""
        self.names.remove(site)
        self.fail(site, task, reason)

    def begin_round(self) -> None:
        self.active, self.returning = list(self.names), []

    def begin_segment(self) -> list[str]:
        """Make the `returning` sites active again; returns them."""
        back, self.returning = self.returning, []
        self.active = [name for name in self.names if name in self.active or name in back]
        return back

    def ask(self, messages: Mapping[str, Message], check: Callable, optional: bool = False) -> dict:
        """Send each site its message and wait for all. Returns {site: check(request, answer, tensors)} of the good
        answers, in the order of `names`. A site that fails, or whose answer is refused by its form or by `check`, is
        out of the segment or the round; where the answer is `optional` the failure is counted, and the site stays.

        Raises:
            QuorumLost: too few sites are left, even with those that may come back.
            RunAborted: the job was aborted.
        """
        began = time.monotonic()
        self._changed.clear()
        pending = {}
        for site in messages:
            if not self.transport.is_gone(site):
                timeout = self.patience.task if site in self._at_work else self.patience.first_task
                message = self._with_receipt(site, messages[site])
                pending[site] = self.transport.send(site, message, timeout, self._changed.set)
        self._wait(pending, began)
        waited = time.monotonic() - began
        self.asking_seconds += waited
        answers = {}
        for site in (name for name in self.names if name in messages):
            request = messages[site].request
            task = request.task
            try:
                answer, tensors = self._answer(site, request, pending.get(site))
                if isinstance(answer, Failure):
                    self.fail(site, task, answer.reason, not optional, may_return=not answer.would_not)
                    continue
                answers[site] = check(request, answer, tensors)
                self._at_work.add(site)
                self.seconds[site] = self.seconds.get(site, 0.0) + min(answer.seconds, waited)
            except Refused as reason:
                self.fail(site, task, str(reason), out=not optional)
            except Exception as error:
                # What no check foresaw in one site's answer must not end the others' run; the fault may be ours.
                LOGGER.error("the answer of %s to %s: %s", site, task, printable(traceback.format_exc()))
                self.fail(site, task, f"its answer cannot be read: {type(error).__name__}", out=not optional)
        self.check_quorum(with_returning=True)
        return answers

    def fail(self, site: str, task: str, reason: str, out: bool = True, may_return: bool = False) -> None:
        """Count a failure and, with `out`, take the site out: of the segment if it `may_return`, else of the round."""
        self.failures.append({"site": site, "task": task, "reason": reason})
        self._at_work.discard(site)
        if out and site in self.active:
            self.active.remove(site)
            if may_return:
                self.returning.append(site)
        self.on_failure(site=site, task=task, reason=reason)

    def check_quorum(self, with_returning: bool = False) -> None:
        """Raises QuorumLost if fewer than `min_sites` are active (`with_returning`: active or returning)."""
        left = len(self.active) + (len(self.returning) if with_returning else 0)
        if left < self.min_sites:
            last = {failure["site"]: failure for failure in self.failures}
            reasons = "; ".join(f"{f['site']} failed in {f['task']}: {f['reason']}" for f in last.values())
            raise QuorumLost(
                f"only {left} of {len(self.names)} sites are left, federation.min_sites is {self.min_sites}. {reasons}"
            )

    def _with_receipt(self, site: str, message: Message) -> Message:
        request = message.request.model_copy(update={"receipt": self.receipts.get(site, "")})
        return message._replace(request=request)

    def _pickup(self, site: str) -> float:
        """Seconds within which a site must fetch its task. A site that did not fetch its last task gets a sixth of
        them, so that a dead site costs the others the whole time only once; a living one asks every few seconds.
        A site that has answered before never gets more than the time for the task itself."""
        pickup = self.patience.pickup / 6 if site in self._absent else self.patience.pickup
        return min(pickup, self.patience.task) if site in self._at_work else pickup

    def _wait(self, pending: Mapping[str, PendingTask], began: float) -> None:
        """Wait until every task is over: answered, timed out, or withdrawn because its site never came for it."""
        while any(task.ended is None for task in pending.values()):
            if self.transport.aborted:
                raise RunAborted
            for site, task in pending.items():
                if task.ended is None and not task.fetched and time.monotonic() - began > self._pickup(site):
                    self.transport.withdraw(task)
            self._changed.wait(POLL)
            self._changed.clear()

    def _answer(self, site: str, request: Request, task: PendingTask | None) -> Reply:
        """What the site answered to exactly this request. Raises Refused."""
        if task is None:
            raise Refused(GONE)
        if task.fetched:
            self._absent.discard(site)
        if (reply := task.reply()) is not None:
            if not isinstance(reply[0], Failure):
                request.envelope.check_same(reply[0].envelope)
                if reply[0].receipt:
                    self.receipts[site] = reply[0].receipt
            return reply
        if not task.fetched:
            waited = self._pickup(site)
            self._absent.add(site)
            raise Refused(f"the site did not come for the task within {waited:g} s; is its job process running?")
        if task.site_died:
            raise Refused(GONE)
        return Failure.of(f"no answer ({task.ended})"), None
