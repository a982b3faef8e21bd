"""What one segment of a job would send from here: the real worker, the real rules; nothing is sent, nothing spent."""

from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.adapters import check_adapter
from fedrlvr.protocol.answers import Failure
from fedrlvr.protocol.records import Envelope, Segment
from fedrlvr.protocol.requests import ProposeRequest, Request, SubmitRequest, SwapRequest, TrainRequest, ValidateRequest
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.site.admission import door
from fedrlvr.site.egress import Egress, as_bytes
from fedrlvr.site.trial import Ask, trial
from fedrlvr.site_config import SiteConfig
from fedrlvr.types import Adapter
from fedrlvr.worker.setup import Ready

Outgoing = tuple[dict, bytes | None]  # a message: its line in the egress log, and its bytes (None: it would not leave)


def dry_run(
    spec: RunSpec, config: SiteConfig, policy: SitePolicy, adapter: Adapter | None = None
) -> tuple[list[Outgoing], list[str]]:
    """Evaluate, train one segment, propose, swap, submit, from `adapter` (None: the job's first one).

    Returns what would leave, and in sentences what the whole job would cost of each budget.

    Raises:
        Refused: the policy would not let this job in.
        TrialFailed: the worker cannot do the job.
    """
    propose_from = policy.responses.propose_from
    with door(spec.job, config, policy) as egress, trial(spec, config, propose_from) as (ready, ask, _):
        egress.adapter_spec = ready.adapter_spec
        egress.check_plan(ready.private_problems)
        costs = egress.planned_costs(ready.private_problems)
        return _one_segment(spec, egress, ready, ask, adapter), costs


def _one_segment(spec: RunSpec, egress: Egress, ready: Ready, ask: Ask, adapter: Adapter | None) -> list[Outgoing]:
    job, here = spec.job, Envelope.here(spec.public_sha256, 0)
    public = spec.public_ids[: job.exchange.prompts_per_step]
    segment = Segment(0, job.federation.local_steps, public)
    shapes = ready.adapter_spec
    adapter = initial_adapter(shapes, job.seed) if adapter is None else check_adapter(adapter, shapes)
    sent: list[Outgoing] = []

    def send(request: Request, tensors: Adapter | None = None) -> None:
        answer, tensors = egress.release(request.task, *ask(request, tensors))
        payload = None if isinstance(answer, Failure) else as_bytes(answer, tensors)
        sent.append((list(egress.log.entries())[-1], payload))

    # One test problem stands for all: what leaves of them are scores either way.
    samples = job.evaluation.samples
    send(ValidateRequest(envelope=here, samples=samples, share=(0, len(spec.test_labels)), name="dry run"), adapter)
    egress.charge_steps(segment.private_steps, ready.private_problems)
    train = {"segments": [segment], "exchange": True, "begin_round": True, "adapter_spec": spec_hash(shapes, job.lora)}
    send(TrainRequest(envelope=here, **train), adapter)
    egress.asked = set(public)
    send(ProposeRequest(envelope=here, segment=segment))
    send(SwapRequest(envelope=here, segment=segment, responses=[]))
    send(SubmitRequest(envelope=here))
    return sent
