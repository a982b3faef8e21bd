"""What a slow site costs the others, where all sites work one after the other: by a clock that counts work.

A site's work is done when it is sent, and its answer is there when that site would have been done: a batch takes one
unit of time, of a site that is twice as slow two. Measuring, submitting and the server take none.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedrlvr.launch.local import LocalTask, LocalTransport
from fedrlvr.protocol.requests import ProposeRequest, Request, TrainRequest
from fedrlvr.server.client_manager import Message
from fedrlvr.site.agent import SiteAgent


class ClockedTransport(LocalTransport):
    """A `Transport` with a clock of its own. `slow` says how many times slower than the others a site is."""

    def __init__(self, agents: Mapping[str, SiteAgent], slow: Mapping[str, float]):
        super().__init__(agents)
        self._slow, self._now = slow, 0.0
        self._ends: list[float] = []

    def send(self, site: str, message: Message, timeout: float, changed: Callable[[], None]) -> "ClockedTask":
        done = super().send(site, message, timeout, changed)
        end = self._now + batches(message.request) * self._slow.get(site, 1.0)
        self._ends.append(end)
        return ClockedTask(done, end, self.now)

    def now(self) -> float:
        return self._now

    def wait(self, changed: threading.Event) -> None:
        """Until the next answer is there."""
        self._ends = [end for end in self._ends if end > self._now]
        self._now = min(self._ends)


@dataclass(frozen=True)
class ClockedTask:
    """A task that is done, and whose answer comes later."""

    done: LocalTask
    end: float
    now: Callable[[], float]
    fetched = True
    site_died = False

    @property
    def ended(self) -> str | None:
        return "answered" if self.now() >= self.end else None

    def reply(self):
        return self.done.reply()


def batches(request: Request) -> int:
    """How many batches a site samples for a request. That of a public step with an exchange is sampled to propose."""
    if isinstance(request, TrainRequest):
        public = sum(bool(segment.public_ids) for segment in request.segments)
        return sum(segment.private_steps for segment in request.segments) + public - request.exchange
    return int(isinstance(request, ProposeRequest))
