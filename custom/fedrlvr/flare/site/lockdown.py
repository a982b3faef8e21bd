"""The other ways out of a site that FLARE has. Those that a job could use are seen to be shut before one is let in."""

from __future__ import annotations

import json

from nvflare.apis.fl_constant import FilterKey, FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.logging.constants import is_log_streaming_allowed
from nvflare.fuel.sec.authz import parse_policy_config
from nvflare.security.security import COMMAND_CATEGORIES

from fedrlvr.flare.site.gate import SiteGate
from fedrlvr.protocol.refused import Refused

# FLARE builds whatever a job names if it is listed, functions included, and its own list has workflows whose results
# go from site to site past the filters of results. A job of ours needs no more than these.
JOB_CLASSES = {"fedrlvr.flare.site.executor.SiteExecutor", "fedrlvr.flare.server.controller.PubSwapController"}
STREAMING = "FLARE would send its logs to the server: set allow_log_streaming: false in its resources.json"


def check_only_way_out(fl_ctx: FLContext) -> None:
    """See that a job can send nothing past the gate.

    Raises:
        Refused: the site's own filters, those of its `privacy.json`, do not hold the gate; a job may name other
            classes than ours; or FLARE would send the site's logs to the server, as it does unless told otherwise.
    """
    scope = fl_ctx.get_prop(FLContextKey.SCOPE_OBJECT)
    if scope is None or not any(isinstance(f, SiteGate) for f in scope.task_result_filters[FilterKey.OUT]):
        raise _refused("its privacy.json does not switch SiteGate on")
    check_resources(_resources(fl_ctx))
    if is_log_streaming_allowed(fl_ctx):
        raise _refused(STREAMING)


def check_resources(resources: object) -> None:
    """What a site's `resources.json` lets a job do. Raises Refused."""
    if not isinstance(resources, dict):
        raise _refused("its resources.json is no mapping")
    allowed = resources.get("class_allow_list")
    if not isinstance(allowed, list) or not set(allowed) <= JOB_CLASSES:
        raise _refused(f"its resources.json lets a job name more than class_allow_list: {sorted(JOB_CLASSES)}")
    if resources.get("class_list_enforcement_mode", "enforce") != "enforce":
        raise _refused("its resources.json has class_list_enforcement_mode other than enforce")
    if resources.get("allow_log_streaming") is not False:
        raise _refused(STREAMING)


def check_authorization(authorization: object) -> None:
    """What a site's `authorization.json` lets people do, as FLARE reads it. Raises Refused where a job may bring code:
    past that, no filter protects anything."""
    policy, error = parse_policy_config(authorization, COMMAND_CATEGORIES)
    if policy is None:
        raise Refused(f"its authorization.json: {error}")
    allowed = [
        f"{role}: {said}"
        for role, rights in policy.role_rights.items()
        if (said := rights.get("*", rights.get("byoc", "none"))) not in ("none", "no")
    ]
    if allowed:
        raise Refused(f"its authorization.json lets jobs bring code (byoc {', '.join(allowed)})")


def _resources(fl_ctx: FLContext) -> object:
    path = fl_ctx.get_engine().get_workspace().get_resources_file_path()
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, TypeError, ValueError):
        raise _refused("its resources.json cannot be read") from None


def _refused(reason: str) -> Refused:
    return Refused(f"the site's file names a policy, but {reason}")
