"""The site's privacy rules as FLARE filters, to be named in the site's own `local/privacy.json`.

FLARE runs them on every result of every job, whatever the job says. What they decide is in `privacy/` and
`site/egress.py`; here is only how FLARE's messages are taken apart and put together again. What is not known is
refused.
"""

from __future__ import annotations

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.filter import ContentBlockedException, Filter
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_def import JobMetaKey
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from nvflare.private.privacy_manager import PrivacyService

from fedrlvr.flare.messages import ENVELOPE, ERROR, REFUSAL, SECONDS, error_answer
from fedrlvr.privacy.guards import Refused
from fedrlvr.site.egress import Egress

EGRESS = "fedrlvr.egress"  # where the executor leaves, in its own process, what the gate needs of the job
NO_POLICY = "this site's privacy policy is not in force; its own log says why"
HEADERS = {ENVELOPE, SECONDS, ReservedHeaderKey.CONTENT_TYPE, ReservedHeaderKey.RC}
PLACE = {"protocol": int, "version": str, "source": str, "manifest": str, "round": int, "segment": int}
MAX_WORD = 128  # characters of a text in the envelope


class SiteGate(Filter):
    """Everything that a fedrlvr job sends from this site, by the policy that the site's `fedrlvr.yaml` names.

    Results of any other job are refused: for those there is `AdapterFilter`.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The result as it may leave, or an error in its place. Raises ContentBlockedException where it is not one of
        our executor's."""
        code = shareable.get_return_code(ReturnCode.OK)
        egress: Egress | None = fl_ctx.get_prop(EGRESS)
        if egress is None:
            if code == ReturnCode.OK:
                raise ContentBlockedException("the result of a job that does not run fedrlvr's executor")
            return error_answer(NO_POLICY)
        place = {"task": str(fl_ctx.get_prop(FLContextKey.TASK_NAME))}
        try:
            if code != ReturnCode.OK:
                return _error(shareable, code, egress, place)
            return _released(shareable, egress, place)
        except Refused as reason:
            # Not log_error(): that is an event too, which a job may have sent to the server.
            self.logger.error("%s: not released: %s", place["task"], reason)
            return error_answer(f"refused by the site's privacy policy: {reason}", refusal=True)


def _released(shareable: Shareable, egress: Egress, place: dict) -> Shareable:
    try:
        envelope, seconds = _headers(shareable)
        dxo = _only_dxo(shareable)
    except Refused as reason:
        egress.block(str(reason), **place)
        raise
    place |= {"round": envelope["round"], "segment": envelope["segment"]}
    match dxo.data_kind:
        case DataKind.WEIGHT_DIFF:
            data = egress.adapter(dxo.data, **place)
        case DataKind.APP_DEFINED if isinstance(dxo.data, dict) and set(dxo.data) == {"responses"}:
            data = {"responses": egress.responses(dxo.data["responses"], **place)}
        case DataKind.METRICS:
            data = egress.metrics(dxo.data, **place)
        case kind:
            reason = f"a result of kind {str(kind)[:80]}, or with unknown content"
            egress.block(reason, **place)
            raise Refused(reason)
    message = DXO(dxo.data_kind, data=data).to_shareable()
    message.set_header(ENVELOPE, envelope)
    # How long private steps took tells how many problems were in them, and how long their completions.
    message.set_header(SECONDS, seconds if egress.policy.metrics.private_steps else 0.0)
    return message


def _error(shareable: Shareable, code: str, egress: Egress, place: dict) -> Shareable:
    """An error's code, and its text as far as the policy lets it. Everything else in the message stays."""
    text = shareable.get_header(ERROR)
    if isinstance(text, str):
        refusal = shareable.get_header(REFUSAL) is True
        return error_answer(egress.error(text, refusal, **place), refusal)
    return make_reply(code if code in vars(ReturnCode).values() else ReturnCode.EXECUTION_EXCEPTION)


def _headers(shareable: Shareable) -> tuple[dict, float]:
    headers = shareable.get("__headers__", {})
    unknown = sorted(set(headers) - HEADERS, key=str)
    if unknown:
        raise Refused(f"the message has an unknown header {str(unknown[0])[:80]!r}")
    envelope, seconds = headers.get(ENVELOPE), headers.get(SECONDS)
    known = isinstance(envelope, dict) and set(envelope) == set(PLACE)
    if not known or not all(type(envelope[name]) is kind for name, kind in PLACE.items()):
        raise Refused("the message has no fedrlvr envelope, or one with other fields")
    if any(len(value) > MAX_WORD for value in envelope.values() if isinstance(value, str)):
        raise Refused("the message's envelope holds a long text")
    if type(seconds) is not float:
        raise Refused("the message does not say how many seconds the site worked, or says more")
    return dict(envelope), seconds


def _only_dxo(shareable: Shareable) -> DXO:
    if set(shareable) - {"__headers__"} != {"DXO"}:
        raise Refused("the message holds something besides one DXO")
    dxo = from_shareable(shareable)
    if dxo.meta:
        raise Refused(f"the message's meta holds {str(next(iter(dxo.meta)))[:80]!r}")
    return dxo


class SimulatedSite(FLComponent):
    """Has FLARE's simulator keep a site's `privacy.json`, as real sites do: its clients read the file but, as of 2.9,
    never apply it. To be named under `components` there; anywhere else it does nothing.
    """

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        simulated = fl_ctx.get_prop(FLContextKey.SIMULATE_MODE, False)
        if event_type == EventType.ABOUT_TO_START_RUN and simulated and not fl_ctx.get_prop(FLContextKey.SCOPE_OBJECT):
            scope = PrivacyService.get_scope((fl_ctx.get_prop(FLContextKey.JOB_META) or {}).get(JobMetaKey.SCOPE, ""))
            fl_ctx.set_prop(FLContextKey.SCOPE_OBJECT, scope, private=True, sticky=True)
