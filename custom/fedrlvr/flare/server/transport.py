"""Requests to the sites by FLARE: simulator, proof of concept and production alike."""

import math
from collections.abc import Callable

from nvflare.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedrlvr.flare.doorbell import ring
from fedrlvr.flare.messages import pack_request, unpack_answer
from fedrlvr.protocol.answers import Reply
from fedrlvr.server.client_manager import Message, RealTime


class FlareTask(Task):
    """A FLARE task for one site, as a `PendingTask`."""

    fetched = False
    result: Shareable | None = None

    @property
    def ended(self) -> str | None:
        if self.result is not None:
            return "answered"
        return self.completion_status and self.completion_status.value

    @property
    def site_died(self) -> bool:
        return self.completion_status == TaskCompletionStatus.CLIENT_DEAD

    def reply(self) -> Reply | None:
        return None if self.result is None else unpack_answer(self.name, self.result)


class FlareTransport(RealTime):
    """`Transport` over a FLARE controller. `unanswered` has site and task of everything that a site came for and has
    not answered, by FLARE's id, so that a late answer can be told apart from a stranger's."""

    def __init__(self, controller: Controller, fl_ctx: FLContext, abort_signal: Signal):
        self._controller, self._fl_ctx, self._abort_signal = controller, fl_ctx, abort_signal
        self.sites = sorted(client.name for client in fl_ctx.get_engine().get_clients())
        self.unanswered: dict[str, tuple[str, str]] = {}

    @property
    def aborted(self) -> bool:
        return self._abort_signal.triggered

    def send(self, site: str, message: Message, timeout: float, changed: Callable[[], None]) -> FlareTask:
        task = FlareTask(message.request.task, pack_request(*message), timeout=math.ceil(timeout))

        def fetch(client_task: ClientTask, fl_ctx: FLContext) -> None:
            task.fetched = True
            self.unanswered[client_task.id] = (site, task.name)

        def keep(client_task: ClientTask, fl_ctx: FLContext) -> None:
            task.result = client_task.result
            client_task.result = None
            self.unanswered.pop(client_task.id, None)
            changed()

        task.after_task_sent_cb, task.result_received_cb = fetch, keep
        self._controller.send(task, self._fl_ctx, targets=[site])
        ring([site], self._fl_ctx)
        return task

    def withdraw(self, task: FlareTask) -> None:
        self._controller.cancel_task(task, fl_ctx=self._fl_ctx)

    def is_gone(self, site: str) -> bool:
        return self._controller.communicator.get_client_disconnect_time(site) is not None
