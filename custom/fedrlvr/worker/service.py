"""What a worker does with a request. It does not know in which process it runs, or who asks."""

import logging
from contextlib import nullcontext

import torch

from fedrlvr.algorithms.lora import adapter_spec
from fedrlvr.algorithms.methods import asks_findings
from fedrlvr.learning.build import build_trainer
from fedrlvr.learning.ranks import Ranks
from fedrlvr.peft_folder import Origin
from fedrlvr.protocol.answers import Answer, ProposeAnswer, StepsAnswer, SubmitAnswer, ValidateAnswer
from fedrlvr.protocol.records import SiteScores, StepRecord
from fedrlvr.protocol.requests import ProposeRequest, Request, SubmitRequest, SwapRequest, TrainRequest, ValidateRequest
from fedrlvr.run import run_identity
from fedrlvr.site_config import COMPLETIONS
from fedrlvr.types import Adapter
from fedrlvr.worker.checkpoint import NotThere, SiteCheckpoints
from fedrlvr.worker.completion_log import CompletionLog
from fedrlvr.worker.doing import DoingFile
from fedrlvr.worker.recovery import Recovery
from fedrlvr.worker.setup import Ready, SetUp

LOGGER = logging.getLogger(__name__)


class Service:
    """A site's trainer with its checkpoints. All ranks make the same calls in the same order."""

    def __init__(self, setup: SetUp, ranks: Ranks):
        """Check the input, load the model, and go on from the newest checkpoint or begin anew.

        Raises:
            ValueError, OSError: input that cannot be used, naming file and setting.
            NotThere: another worker works on this run.
        """
        self._setup, self._ranks = setup, ranks
        spec, config = setup.spec, setup.site_config
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.trainer = build_trainer(spec, setup.site, config, ranks, setup.propose_from, setup.draws_key)
        shapes = adapter_spec(self.trainer.engine.adapter())
        cut = {"processes": ranks.world_size, "optimizer": self.trainer.engine.optimizer_shapes()}
        if config.lora_rank is not None:  # Adam's moments of other ranks would move those that are frozen now
            cut["lora_rank"] = config.lora_rank
        identity = run_identity(spec.job, spec.public_sha256, site=setup.site, spec=shapes, **cut)
        self._checkpoints = SiteCheckpoints(config.state_dir / "checkpoints", spec.run, identity, ranks)
        self._recovery = Recovery(self.trainer, self._checkpoints)
        self._checkpoints.claim()
        self._log = CompletionLog(config.state_dir / COMPLETIONS, config.completion_log_mb * 2**20)
        if ranks.rank == 0 and config.completion_log_mb:
            self.trainer.rollouts.listen, self.trainer.listen = self._log.write, self._log.write_swaps
        self._doing = DoingFile(config.state_dir)
        if ranks.rank == 0:
            self.trainer.tell = self._doing.write
        if setup.recover:
            self._recovery.recover()
        else:
            self._checkpoints.clear()
        self.ready = Ready(
            adapter_spec=shapes,
            private_problems=len(self.trainer.problems.private),
            too_long=dict(self.trainer.too_long),
            rounds_done=max(0, self.trainer.progress.round),
            ledger=self._recovery.ledger,
        )

    def answer(self, request: Request, tensors: Adapter | None, ledger: str) -> tuple[Answer, Adapter | None]:
        """Do what is asked. A step that moved the policy is saved before it is answered. Raises NotThere for a request
        of a round that this worker cannot enter."""
        trainer, envelope = self.trainer, request.envelope
        run, number = self._setup.spec.run, envelope.round
        self._log.place = {"run": run, "round": number, "segment": envelope.segment, "task": request.task}
        self._doing.place = {"run": run, "round": number, "task": request.task}
        if isinstance(request, TrainRequest):
            self._recovery.enter_round(envelope.round, request.begin_round, tensors, ledger)
        elif tensors is None and envelope.round >= 0:
            self._recovery.expect_round(envelope.round)
        match request:
            case TrainRequest():
                steps = trainer.train(request.segments, request.exchange)
            case SwapRequest():
                steps = [trainer.swap(request.segment, request.responses, request.targets)]
            case ProposeRequest():
                responses, shares = trainer.propose(request.segment, request.wanted)
                return ProposeAnswer(envelope=envelope, responses=responses, shares=shares), None
            case SubmitRequest():
                return SubmitAnswer(envelope=envelope), trainer.submit()
            case ValidateRequest():
                about = {"adapter_spec": self.ready.adapter_spec, "base_model": self._setup.base_model}
                return ValidateAnswer(envelope=envelope, scores=self._scores(request, tensors), **about), None
            case _:
                raise ValueError(f"unknown task {request.task!r}")
        asked = asks_findings(self._setup.spec.job) and trainer.propose_from == "local"
        findings = trainer.notes.told() if asked else None  # of the server's own adapter it is told nothing new
        return StepsAnswer(envelope=envelope, steps=self._saved(steps, ledger), findings=findings), None

    def may_go_on(self, request: Request, error: Exception) -> bool:
        """Whether this worker can be used after the error: not if the policy may be half updated, or the ranks may be
        out of step with each other."""
        moves = isinstance(request, TrainRequest | SwapRequest)
        return isinstance(error, NotThere) or not (moves or self._ranks.world_size > 1)

    def close(self, save: bool) -> None:
        """Write the adapter as a PEFT directory, if it is to be kept; end the rollout engine, and unlock the run for
        another worker."""
        try:
            if save:
                setup = self._setup
                origin = Origin(base_model=setup.spec.job.model, fingerprint=setup.base_model)
                self.trainer.engine.save_adapter(setup.site_config.state_dir / "adapter", origin)
        finally:
            self.trainer.rollouts.generator.close()
            self._checkpoints.release()

    def _scores(self, request: ValidateRequest, adapter: Adapter | None) -> SiteScores:
        before_the_first = request.envelope.round < 0
        with self.trainer.engine.policy.model.disable_adapter() if before_the_first else nullcontext():
            return self.trainer.validate(adapter, request.samples, request.share, request.name, request.problems)

    def _saved(self, steps: list[StepRecord], ledger: str) -> list[StepRecord]:
        if self._recovery.keep(ledger) or not steps:
            return steps
        last = steps[-1]
        return [*steps[:-1], last.model_copy(update={"metrics": last.metrics | {"checkpoint/failed": 1.0}})]
