"""The server's side of talking to the sites: ask several at once, wait, sort answers from failures, keep the quorum."""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from fedrlvr.printable import printable
from fedrlvr.protocol.answers import Answer, Failure, Reply
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
    """How requests reach the sites: FLARE, or this process itself. Time is the transport's, in seconds: an experiment
    may have a clock of its own."""

    sites: list[str]  # the names of all sites of the job, sorted
    aborted: bool  # the job is to end now

    def send(self, site: str, message: Message, timeout: float, changed: Callable[[], None]) -> PendingTask:
        """Send the message. Returns at once, or when the task is over. `changed` is called, from any thread, when an
        answer came."""

    def withdraw(self, task: PendingTask) -> None:
        """Take back a task that the site never came for."""

    def is_gone(self, site: str) -> bool:
        """Whether the transport knows that the site is lost."""

    def now(self) -> float:
        """The time."""

    def wait(self, changed: threading.Event) -> None:
        """Return a little later, or as soon as `changed` is set."""


class RealTime:
    """The part of a `Transport` whose time is everybody's."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, changed: threading.Event) -> None:
        changed.wait(POLL)
        changed.clear()


Check = Callable[[Request, Answer, Adapter | None], object]  # raises Refused; never returns None


class Asked(NamedTuple):
    """A message, and what is made of its answer."""

    message: Message
    check: Check
    optional: bool = False


class OpenTask(NamedTuple):
    """What a site was asked, and when; without a task where the site is gone."""

    asked: Asked
    task: PendingTask | None
    began: float

    @property
    def over(self) -> bool:
        return self.task is None or self.task.ended is not None


Talk = Generator[Asked, object | None, None]  # what one site is asked, one thing after the other


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
    goes back to its site, which notices by it when its records were exchanged for older ones. `tell` gets what happens:
    that a site was `asked`, that it `answered` or its task is over otherwise, and every `failure`.
    """

    transport: Transport
    min_sites: int
    patience: Patience
    tell: Callable[..., None]
    active: list[str] = field(default_factory=list)
    returning: list[str] = field(default_factory=list)
    failures: list[dict] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    asking_seconds: float = 0.0
    _at_work: set[str] = field(default_factory=set)  # have answered since they began, or since they failed
    _absent: set[str] = field(default_factory=set)  # did not come for their last task
    _asked: set[str] = field(default_factory=set)  # have a task of which it was not told yet that it is over
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

    def take_back(self, site: str) -> bool:
        """Make one site active again, if it is `returning`. Whether it was."""
        if site not in self.returning:
            return False
        self.returning.remove(site)
        self.active = [name for name in self.names if name in self.active or name == site]
        return True

    def ask(self, messages: Mapping[str, Message], check: Check, optional: bool = False) -> dict:
        """Send each site its message and wait for all. Returns {site: check(request, answer, tensors)} of the good
        answers, in the order of `names`. A site that fails, or whose answer is refused by its form or by `check`, is
        out of the segment or the round; where the answer is `optional` the failure is counted, and the site stays.

        Raises:
            QuorumLost: too few sites are left, even with those that may come back.
            RunAborted: the job was aborted.
        """
        began = self.transport.now()
        open_tasks = {site: self._send(site, Asked(messages[site], check, optional)) for site in messages}
        self._wait(open_tasks, all)
        waited = self.transport.now() - began
        self.asking_seconds += waited
        answers = {site: self._answered(site, open_tasks[site], waited) for site in self.names if site in messages}
        self.check_quorum(with_returning=True)
        return {site: answer for site, answer in answers.items() if answer is not None}

    def converse(self, talks: Mapping[str, Talk]) -> None:
        """Lead a conversation with each site at its own pace: send what it yields, and give it back what `ask` would
        return of the answer, None where there is no good one. Raises as `ask`."""
        began, open_tasks = self.transport.now(), {}

        def go_on(site: str, answer: object) -> None:
            with suppress(StopIteration):
                open_tasks[site] = self._send(site, talks[site].send(answer))

        for site in talks:
            go_on(site, None)
        while open_tasks:
            self._wait(open_tasks, any)
            for site in [name for name in self.names if name in open_tasks and open_tasks[name].over]:
                ended = open_tasks.pop(site)
                answer = self._answered(site, ended, self.transport.now() - ended.began)
                self.check_quorum(with_returning=True)
                go_on(site, answer)
        self.asking_seconds += self.transport.now() - began

    def _send(self, site: str, asked: Asked) -> OpenTask:
        began, task, request = self.transport.now(), None, asked.message.request
        if not self.transport.is_gone(site):
            timeout = self.patience.task if site in self._at_work else self.patience.first_task
            self._asked.add(site)
            self.tell(
                "asked", site=site, task=request.task, round=request.envelope.round, segment=request.envelope.segment
            )
            task = self.transport.send(site, self._with_receipt(site, asked.message), timeout, self._changed.set)
        sent = OpenTask(asked, task, began)
        self._tell_over({site: sent})
        return sent

    def _tell_over(self, tasks: Mapping[str, OpenTask]) -> None:
        """Tell of each that is over, once."""
        for site in [name for name, one in tasks.items() if one.over and name in self._asked]:
            self._asked.remove(site)
            self.tell("answered", site=site, task=tasks[site].asked.message.request.task)

    def _answered(self, site: str, ended: OpenTask, waited: float) -> object | None:
        """The checked answer of a task that is over, which took so many seconds; None where the site failed, which is
        counted."""
        request, out = ended.asked.message.request, not ended.asked.optional
        try:
            answer, tensors = self._answer(site, request, ended.task)
            if isinstance(answer, Failure):
                self.fail(site, request.task, answer.reason, out, may_return=not answer.would_not)
                return None
            checked = ended.asked.check(request, answer, tensors)
        except Refused as reason:
            self.fail(site, request.task, str(reason), out)
        except Exception as error:
            # What no check foresaw in one site's answer must not end the others' run; the fault may be ours.
            LOGGER.error("the answer of %s to %s: %s", site, request.task, printable(traceback.format_exc()))
            self.fail(site, request.task, f"its answer cannot be read: {type(error).__name__}", out)
        else:
            self._at_work.add(site)
            self.seconds[site] = self.seconds.get(site, 0.0) + min(answer.seconds, waited)
            return checked
        return None

    def fail(self, site: str, task: str, reason: str, out: bool = True, may_return: bool = False) -> None:
        """Count a failure and, with `out`, take the site out: of the segment if it `may_return`, else of the round."""
        self.failures.append({"site": site, "task": task, "reason": reason})
        self._at_work.discard(site)
        out_of = ("segment" if may_return else "round") if out else None
        if out and site in self.active:
            self.active.remove(site)
            if may_return:
                self.returning.append(site)
        self.tell("failure", site=site, task=task, reason=reason, out_of=out_of)

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

    def _wait(self, open_tasks: Mapping[str, OpenTask], enough: Callable) -> None:
        """Wait until all of them, or any, are over: answered, timed out, or withdrawn because the site never came."""
        self._changed.clear()
        while not enough(one.over for one in open_tasks.values()):
            if self.transport.aborted:
                raise RunAborted
            for site, one in open_tasks.items():
                if not (one.over or one.task.fetched) and self.transport.now() - one.began > self._pickup(site):
                    self.transport.withdraw(one.task)
            self.transport.wait(self._changed)
            self._tell_over(open_tasks)

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
