"""What FLARE 2.9 does not offer and this package needs. Each reaches into FLARE, and a test holds that it works with
the pinned version. With another FLARE, read this file first.
"""

import time
from collections.abc import Callable
from pathlib import Path

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey, FLMetaKey, SystemConfigs
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.job_def import JobMetaKey
from nvflare.fuel.utils.config_service import ConfigService
from nvflare.private.fed.client.shell_cmd import SHELL_CMD_VALIDATORS
from nvflare.private.privacy_manager import PrivacyService


def outlive_a_killed_site(fl_ctx: FLContext) -> None:
    """At a site: write down beforehand that this process ended well, should it be killed before it can say so.

    FLARE would otherwise end the whole job when one site's process is killed (by the kernel, for memory, say), however
    many sites the job could do without; now our own quorum decides. FLARE's monitor writes the true code over this
    when the process ends by itself.
    """
    if not fl_ctx.get_prop(FLContextKey.SIMULATE_MODE, False):
        run_dir = Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id()))
        (run_dir / FLMetaKey.PROCESS_RC_FILE).write_text("0")


def hear_of_late_answers(controller: Controller, late: Callable[[str], None]) -> None:
    """At the server: call `late` with the id of a task that a site still works on although it is over.

    FLARE's client asks whether its task is still wanted before it sends a result, and drops one that is not. That
    question is mostly all that a server hears of a late answer.
    """
    check = controller.communicator.process_task_check

    def listening(task_id: str, fl_ctx: FLContext):
        task = check(task_id, fl_ctx)
        if task is None:
            late(task_id)
        return task

    controller.communicator.process_task_check = listening


def miss_silent_sites(controller: Controller) -> None:
    """At the server: tell FLARE of a site whose job process has sent no heartbeat for ten minutes, as long as FLARE
    takes to miss a site (`NVFLARE_SITE_SILENCE` has other seconds).

    FLARE misses sites, not their job processes. A site that is stopped and started again is there, its job process is
    gone for good, and the job would wait for it until the deadline.
    """
    communicator, heard = controller.communicator, {}
    is_active, check = communicator.client_is_active, communicator._check_dead_clients
    patience = ConfigService.get_float_var("site_silence", SystemConfigs.APPLICATION_CONF, 600.0)

    def hearing(name: str, reason: str, fl_ctx: FLContext) -> None:
        if name in heard or reason == "jobHeartbeat":
            heard[name] = time.monotonic()
        is_active(name, reason, fl_ctx)

    def missing() -> None:
        silent = [name for name, last in list(heard.items()) if time.monotonic() - last > patience]
        for name in silent:
            del heard[name]  # until its next heartbeat
            with controller._engine.new_context() as fl_ctx:
                communicator.process_dead_client_report(name, fl_ctx)
        check()

    communicator.client_is_active, communicator._check_dead_clients = hearing, missing


class NoRemoteShell(FLComponent):
    """Takes away the shell that FLARE keeps at a site for its server, with which the server could `cat` any file that
    the site's process may read. Name it under `components` in the site's own `resources.json`."""

    def __init__(self):
        super().__init__()
        SHELL_CMD_VALIDATORS.clear()


class SimulatedSite(FLComponent):
    """Has FLARE's simulator keep a site's `privacy.json`, as real sites do: its clients read the file but never apply
    it. Name it under `components` there; anywhere else it does nothing."""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        simulated = fl_ctx.get_prop(FLContextKey.SIMULATE_MODE, False)
        if event_type == EventType.ABOUT_TO_START_RUN and simulated and not fl_ctx.get_prop(FLContextKey.SCOPE_OBJECT):
            scope = PrivacyService.get_scope((fl_ctx.get_prop(FLContextKey.JOB_META) or {}).get(JobMetaKey.SCOPE, ""))
            fl_ctx.set_prop(FLContextKey.SCOPE_OBJECT, scope, private=True, sticky=True)
