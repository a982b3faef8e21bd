"""The server's side of talking to the sites: ask several at once, wait, sort answers from failures, keep the quorum."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from nvflare.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedrlvr.flare.messages import ENVELOPE, CouldNot, read_answer
from fedrlvr.privacy.guards import Refused

Checked = TypeVar("Checked")

LOGGER = logging.getLogger(__name__)
POLL = 0.05
GONE = "the site is gone: FLARE has not heard of its job for too long"


class QuorumLost(RuntimeError):
    """Fewer sites than `federation.min_sites` are left in this round; the message says who failed and why."""


class RunAborted(RuntimeError):
    """The job's abort signal was seen."""


@dataclass
class Asked:
    """One site's task: whether the site came for it, and its answer."""

    task: Task | None = None
    fetched: bool = False
    result: Shareable | None = None

    def answered(self, pickup_deadline: float) -> Shareable:
        """The answer; Refused where there is none, saying how the task ended; CouldNot where the site was at work."""
        if self.result is not None:
            return self.result
        if not self.fetched:
            raise Refused(
                f"the site did not come for the task within {pickup_deadline:g} s; is its job process running?"
            )
        if self.task.completion_status == TaskCompletionStatus.CLIENT_DEAD:
            raise Refused(GONE)
        raise CouldNot(f"no answer ({self.task.completion_status.value})")


@dataclass
class Sites:
    """`active` are the sites in the segment under way. One that could not do its task is asked again with the next
    segment (`returning` until then); one that would not, that was refused or never came is out until the next round.

    Of a site that `is_gone` nothing is asked. `unanswered` has site and task of everything that a site came for and has
    not answered, by FLARE's id. `deadline` and `first_deadline` are for answers of sites whose worker runs, or may have
    to be started: one that has answered nothing since it began, or since it failed.
    """

    controller: Controller
    fl_ctx: FLContext
    abort_signal: Signal
    names: list[str]
    min_sites: int
    deadline: float
    first_deadline: float
    pickup_deadline: float
    on_failure: Callable[..., None]
    is_gone: Callable[[str], bool] = lambda site: False
    active: list[str] = field(default_factory=list)
    returning: list[str] = field(default_factory=list)
    failures: list[dict] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    asking_seconds: float = 0.0
    unanswered: dict[str, tuple[str, str]] = field(default_factory=dict)
    _at_work: set[str] = field(default_factory=set)
    _absent: set[str] = field(default_factory=set)

    def begin_round(self) -> None:
        self.active, self.returning = list(self.names), []

    def begin_segment(self) -> list[str]:
        """Take back the sites that could not do a task of the segment before; returns them."""
        back, self.returning = self.returning, []
        self.active = [name for name in self.names if name in self.active or name in back]
        return back

    def ask(
        self, task: str, messages: Mapping[str, Shareable], check: Callable[[dict], Checked], optional: bool = False
    ) -> dict[str, Checked]:
        """Send each site its message and wait for all. Returns {site: check(data)} of the good answers, in the order of
        `names`. A site that answers with an error, or whose answer is refused by envelope or `check`, is out of the
        segment or the round; where the answer is `optional` it is counted, and stays.

        Raises:
            QuorumLost: too few sites are left, with those that may come back.
            RunAborted: the job was aborted.
        """
        began = time.monotonic()
        asked = {site: self._send(task, site, messages[site]) for site in messages if not self.is_gone(site)}
        self._wait(asked, began)
        self.asking_seconds += time.monotonic() - began
        answers = {}
        for site in (name for name in self.names if name in messages):
            try:
                if site not in asked:
                    raise Refused(GONE)
                result = asked[site].answered(self._patience(site))
                data, seconds = read_answer(task, result, messages[site].get_header(ENVELOPE))
                answers[site] = check(data)
                self._at_work.add(site)
                self.seconds[site] = self.seconds.get(site, 0.0) + seconds
            except Refused as reason:
                self.fail(site, task, str(reason), out=not optional, may_return=isinstance(reason, CouldNot))
                if site in asked and not asked[site].fetched:
                    self._absent.add(site)
            except Exception as error:
                # What no check foresaw in one site's answer must not end the others' run; the fault may be ours.
                LOGGER.exception("the answer of %s to %s", site, task)
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
        """Raises QuorumLost where fewer than `min_sites` are active, or active or returning."""
        left = len(self.active) + (len(self.returning) if with_returning else 0)
        if left < self.min_sites:
            reasons = "; ".join(f"{f['site']} failed in {f['task']}: {f['reason']}" for f in self.failures)
            raise QuorumLost(
                f"only {left} of {len(self.names)} sites are left, federation.min_sites is {self.min_sites}. {reasons}"
            )

    def _patience(self, site: str) -> float:
        """Seconds that a site has to come for a task: fewer once it did not, so that one that is dead, which nobody
        tells, costs the others its whole time only once. One that lives comes several times a second. A site at work
        has no longer for coming than for its answer."""
        patience = self.pickup_deadline / 6 if site in self._absent else self.pickup_deadline
        return min(patience, self.deadline) if site in self._at_work else patience

    def _send(self, name: str, site: str, message: Shareable) -> Asked:
        asked = Asked()

        def fetch(client_task: ClientTask, fl_ctx: FLContext) -> None:
            asked.fetched = True
            self._absent.discard(site)
            self.unanswered[client_task.id] = (site, name)

        def keep(client_task: ClientTask, fl_ctx: FLContext) -> None:
            asked.result, client_task.result = client_task.result, None
            self.unanswered.pop(client_task.id, None)

        timeout = math.ceil(self.deadline if site in self._at_work else self.first_deadline)
        asked.task = Task(name, message, timeout=timeout, after_task_sent_cb=fetch, result_received_cb=keep)
        self.controller.send(asked.task, self.fl_ctx, targets=[site])
        return asked

    def _wait(self, asked: Mapping[str, Asked], began: float) -> None:
        """Until every task is over: answered, timed out, or cancelled because its site never came for it."""
        while True:
            waiting = [one for one in asked.values() if one.task.completion_status is None]
            if not waiting:
                return
            if self.abort_signal.triggered:
                raise RunAborted
            for site, one in asked.items():
                late = time.monotonic() - began > self._patience(site)
                if late and not one.fetched and one.task.completion_status is None:
                    self.controller.cancel_task(one.task, fl_ctx=self.fl_ctx)
            time.sleep(POLL)
