"""FLARE's other ways out of a site. Before a job runs, this checks that those which a job could use are closed."""

from collections.abc import Set
from pathlib import Path

from nvflare.apis.fl_constant import FilterKey, FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.logging.constants import is_log_streaming_allowed
from nvflare.fuel.sec.authz import parse_policy_config
from nvflare.security.security import COMMAND_CATEGORIES

from fedrlvr.flare.site.gate import SiteGate
from fedrlvr.flare.site.site_kit import JOB_CLASSES
from fedrlvr.flare.trackers import TRACKERS
from fedrlvr.json_text import from_json
from fedrlvr.protocol.refused import Refused

GATE = f"{SiteGate.__module__}.{SiteGate.__name__}"
STREAMING = "FLARE would send its logs to the server: set allow_log_streaming: false in its resources.json"


def check_only_way_out(fl_ctx: FLContext) -> None:
    """Raises Refused where a job could send something without the gate: the filters in the site's `privacy.json` do not
    include it, a job may name other classes than ours, or FLARE would send the site's logs, as it does by default."""
    scope = fl_ctx.get_prop(FLContextKey.SCOPE_OBJECT)
    if scope is None or not any(isinstance(f, SiteGate) for f in scope.task_result_filters[FilterKey.OUT]):
        raise _refused("its privacy.json does not switch SiteGate on")
    resources = read_local(Path(fl_ctx.get_engine().get_workspace().get_site_config_dir()), "resources.json")
    # The simulator has one file for its sites and its server, which may have a tracker.
    simulated = fl_ctx.get_prop(FLContextKey.SIMULATE_MODE, False)
    check_resources(resources, JOB_CLASSES | set(TRACKERS.values()) if simulated else JOB_CLASSES)
    if is_log_streaming_allowed(fl_ctx):
        raise _refused(STREAMING)


def check_switch(path: Path) -> None:
    """Raises Refused if this `privacy.json` of a site does not have FLARE put the gate on every result of every job."""
    if not path.exists():
        raise Refused(f"{path} is missing: it puts SiteGate on every job")
    try:
        switch = from_json(path.read_bytes())
        scopes = {scope["name"]: scope for scope in switch["scopes"]}
        filters = scopes[switch["default_scope"]]["task_result_filters"]
        on = len(scopes) == 1 and any(f["path"] == GATE and f["direction"] == "out" for f in filters)
    except (OSError, ValueError, KeyError, TypeError):
        on = False
    if not on:
        raise Refused(f"{path} does not put SiteGate on every job")


def check_resources(resources: object, classes: Set[str] = JOB_CLASSES) -> None:
    """Raises Refused if a site's `resources.json` lets a job do too much, such as name other `classes`."""
    if not isinstance(resources, dict):
        raise _refused("its resources.json is not a mapping")
    allowed = resources.get("class_allow_list")
    if not isinstance(allowed, list) or not set(allowed) <= classes:
        raise _refused(f"its resources.json lets a job name more than class_allow_list: {sorted(classes)}")
    if resources.get("class_list_enforcement_mode", "enforce") != "enforce":
        raise _refused("its resources.json has class_list_enforcement_mode other than enforce")
    if resources.get("allow_log_streaming") is not False:
        raise _refused(STREAMING)


def check_authorization(authorization: object) -> None:
    """Raises Refused if a site's `authorization.json`, as FLARE reads it, lets a job bring code: against such code no
    filter protects."""
    policy, error = parse_policy_config(authorization, COMMAND_CATEGORIES)
    if policy is None:
        raise Refused(f"its authorization.json: {error}")
    byoc = {role: rights.get("*", rights.get("byoc", "none")) for role, rights in policy.role_rights.items()}
    allowed = [f"{role}: {value}" for role, value in byoc.items() if value not in ("none", "no")]
    if allowed:
        raise Refused(f"its authorization.json lets jobs bring code (byoc {', '.join(allowed)})")


def read_local(local: Path, name: str) -> object:
    """What FLARE reads: the site's own file or, without one, the file that provisioning made. Raises Refused."""
    path = next((path for path in (local / name, local / f"{name}.default") if path.exists()), None)
    if path is None:
        raise Refused(f"{local} has no {name}")
    try:
        return from_json(path.read_bytes())
    except (OSError, ValueError):
        raise Refused(f"{path}: cannot be read") from None


def _refused(reason: str) -> Refused:
    return Refused(f"the site's file names a policy, but {reason}")
