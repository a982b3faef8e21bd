"""The site's gate as a FLARE filter, to be named in the site's own `local/privacy.json`.

FLARE applies it to every result of every job; a job cannot change that. This file only unpacks and packs FLARE's
messages: `site/egress.py` decides. Anything unknown is refused.
"""

from nvflare.apis.filter import ContentBlockedException, Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply

from fedrlvr.flare.messages import ENVELOPE, ERROR, RECEIPT, SECONDS, only_dxo, pack_answer, unpack_answer
from fedrlvr.protocol.answers import Failure
from fedrlvr.protocol.refused import Refused
from fedrlvr.site.closed_gate import JOB_LOG, NO_POLICY, ClosedGate
from fedrlvr.site.egress import Egress

EGRESS = "fedrlvr.egress"  # the context property by which the executor hands its gate to this filter
MALFORMED = f"the message is not of the agreed form; {JOB_LOG} says where"
HEADERS = {ENVELOPE, SECONDS, RECEIPT, ReservedHeaderKey.CONTENT_TYPE, ReservedHeaderKey.RC}


class SiteGate(Filter):
    """Applies the policy that the site's `fedrlvr.yaml` names to everything that a fedrlvr job sends from this site.

    Results of other jobs are refused: for them there is `AdapterFilter`.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The result as it may leave, or an error in its place. Raises ContentBlockedException for a result that is not
        from our executor."""
        code = shareable.get_return_code(ReturnCode.OK)
        egress: Egress | ClosedGate | None = fl_ctx.get_prop(EGRESS)
        task = str(fl_ctx.get_prop(FLContextKey.TASK_NAME))
        if egress is None:
            if code == ReturnCode.OK:
                raise ContentBlockedException("the result of a job that does not run fedrlvr's executor")
            return pack_answer(task, Failure.of(NO_POLICY), None)
        if code != ReturnCode.OK and not isinstance(shareable.get_header(ERROR), str):
            return make_reply(code if code in vars(ReturnCode).values() else ReturnCode.EXECUTION_EXCEPTION)
        try:
            if code == ReturnCode.OK and (meta := only_dxo(shareable, HEADERS).meta):
                raise Refused(f"the message's meta holds {str(next(iter(meta)))[:80]!r}")
            answer, tensors = unpack_answer(task, shareable)
        except Refused as reason:
            # The reason may name what stands in the message, so it stays in FLARE's log at the site.
            self.logger.error("%s: %s", task, reason)
            return pack_answer(task, egress.block(task, MALFORMED), None)
        return pack_answer(task, *egress.release(task, answer, tensors))
