"""A site without a task waits for the server's bell, and asks FLARE for its task only then.

By itself FLARE has a site ask again and again, in the simulator every half second: most of a small task's time would be
that. The bell is a message on FLARE's auxiliary channel that says nothing. One that is not heard costs `LONGEST`.
"""

import threading
import time
from collections.abc import Sequence

from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReturnCode, Shareable, make_reply

TOPIC = "fedrlvr.task"
LONGEST = 5.0  # seconds that a site waits before it asks without having heard the bell
LOOK = 0.1  # seconds between looks at the abort signal


def ring(sites: Sequence[str], fl_ctx: FLContext) -> None:
    """At the server, when there is a task for these sites, or the run is over."""
    fl_ctx.get_engine().fire_and_forget_aux_request(list(sites), TOPIC, Shareable(), fl_ctx, optional=True)


class Doorbell:
    """At a site, heard from the moment on at which it is made."""

    def __init__(self, fl_ctx: FLContext):
        self._rung = threading.Event()
        self._rung.set()  # ask at once the first time
        fl_ctx.get_engine().register_aux_message_handler(TOPIC, self._ring)

    def wait(self, fl_ctx: FLContext) -> None:
        """Return when the bell rings, after `LONGEST`, or when the job is aborted."""
        latest, abort = time.monotonic() + LONGEST, fl_ctx.get_run_abort_signal()
        while not (self._rung.wait(LOOK) or abort.triggered or time.monotonic() > latest):
            pass
        self._rung.clear()

    def task_done(self) -> None:
        """Forget a bell that rang while the site was at work: it was for the task that is done."""
        self._rung.clear()

    def _ring(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        self._rung.set()
        return make_reply(ReturnCode.OK)
