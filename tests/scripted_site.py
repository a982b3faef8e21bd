"""A site with real files and a scripted worker, and what a server asks of it."""

from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.algorithms.schedule import plan_round
from fedrlvr.protocol.answers import Failure, StepsAnswer, SubmitAnswer, ValidateAnswer
from fedrlvr.protocol.records import Envelope, SiteScores
from fedrlvr.protocol.requests import SubmitRequest, TrainRequest, ValidateRequest
from fedrlvr.site.agent import SiteAgent
from fedrlvr.worker.setup import Ready

HERE = Envelope.here("hash", 0, 1)
SPEC = {"a.lora_A.weight": [8, 64], "a.lora_B.weight": [64, 8]}
SUBMIT = SubmitRequest(envelope=HERE)  # at the end of the only round, of two segments


def train(agent: SiteAgent, phase: int = 0, adapter=None, **changes):
    """What the agent answers to a phase of the round, as it was planned."""
    job = agent.spec.job
    planned = plan_round(job, 0, list(agent.spec.public_ids))[phase]
    values = {
        "envelope": HERE.model_copy(update={"segment": planned.last.index}),
        "segments": list(planned.segments),
        "exchange": planned.exchange,
        "begin_round": phase == 0,
        "adapter_spec": spec_hash(SPEC, job.lora),
    }
    return agent.answer(TrainRequest(**values | changes), adapter)


class ScriptedWorker:
    """Is ready at once, and answers like a worker of this model."""

    def __init__(self, setup):
        self.setup, self.running, self.failing, self.calls, self.tensors = setup, False, False, [], []
        self.started = Ready(adapter_spec=SPEC, private_problems=16, rounds_done=0, ledger="")

    def start(self):
        self.calls.append("start")
        self.running = isinstance(self.started, Ready)
        return self.started

    def ask(self, request, tensors=None, ledger=""):
        self.calls.append(request.task)
        self.tensors.append(tensors)
        if self.failing:
            return Failure.of("out of memory"), None
        match request:
            case ValidateRequest():
                scores = SiteScores(test={"A": {"problems": 4.0, "pass@1": 0.5}})
                about = {"adapter_spec": SPEC, "base_model": self.setup.base_model}
                return ValidateAnswer(envelope=request.envelope, scores=scores, **about), None
            case TrainRequest():
                return StepsAnswer(envelope=request.envelope, steps=[]), None
        return SubmitAnswer(envelope=request.envelope), initial_adapter(SPEC, 0)

    def stop(self, grace=0.0):
        self.running = False
        self.calls.append("stop")


def refusal(answer) -> str:
    failure, tensors = answer
    assert isinstance(failure, Failure)
    assert failure.would_not
    assert tensors is None
    return failure.reason
