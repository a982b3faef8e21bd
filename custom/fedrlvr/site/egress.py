"""What may leave a site: every answer to the server is checked, limited, charged to the ledger and logged here.

This file applies the rules of `privacy/` to the answers of a job's worker. It fails closed: after an exception here
nothing leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property

from fedrlvr.algorithms.schedule import planned_private_steps
from fedrlvr.config import JobConfig
from fedrlvr.data.problems import read_problems
from fedrlvr.privacy.accountant import Charge, ExampleNoise, SiteNoise
from fedrlvr.privacy.adapter_release import AdapterRelease, budget_in_words, check_budget
from fedrlvr.privacy.egress_log import EgressLog, fingerprint
from fedrlvr.privacy.ledger import Ledger
from fedrlvr.privacy.metrics import allowed_scores, allowed_steps
from fedrlvr.privacy.overlap import PrivateIndex
from fedrlvr.privacy.pii import Names, Presidio
from fedrlvr.privacy.policy import AdapterRules, SitePolicy, TrainingRules
from fedrlvr.privacy.responses import Context, filter_responses
from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.protocol.answers import ValidateAnswer
from fedrlvr.protocol.records import PublicResponse, StepRecord
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.strict import as_json
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import task_named
from fedrlvr.types import Adapter, Problem

WITHHELD = "the site could not do this task; its own log says why"


class Egress:
    """Releases what one job may send from one site.

    `asked` are the public problems of the current step, `adapter_spec` the names and shapes of the model's adapter:
    without them no answers and no adapter leave. `ledger` and `log` are the policy's files; a dry run has its own.
    """

    def __init__(
        self,
        site: str,
        job_id: str,
        job: JobConfig,
        config: SiteConfig,
        policy: SitePolicy,
        ledger: Ledger | None = None,
        log: EgressLog | None = None,
    ):
        self.job, self.config, self.policy = job, config, policy
        self.ledger, self.log = ledger or Ledger(policy.ledger, site), log or EgressLog(policy.log)
        self.asked: set[str] = set()
        self.adapter_spec: dict[str, list[int]] = {}
        self._place = {"site": site, "job": job_id, "model": config.model}
        self._release = AdapterRelease(policy.adapters, self.ledger, config.model, job_id)

    def adapter(self, delta: Adapter, **place) -> Adapter:
        """Exactly the expected tensors, clipped, with noise. The noise is charged to the ledger before the release."""
        with self._written("adapter", place) as entry:
            delta, measured = self._release(delta, self.adapter_spec)
            entry |= {"count": len(delta), "rules": measured, **fingerprint(as_safetensors(delta))}
            entry["ledger"] = self.ledger.last_hash()  # with this release's charge
        return delta

    def responses(self, responses: Sequence[PublicResponse], **place) -> list[PublicResponse]:
        """The answers that pass every rule; the others are dropped and counted."""
        with self._written("responses", place) as entry:
            filtered = filter_responses(responses, self.policy.responses, self._context())
            payload = as_json({"responses": filtered.kept})
            entry |= {"count": len(filtered.kept), "rules": filtered.dropped, **fingerprint(payload)}
        self._answers_released += len(filtered.kept)
        return filtered.kept

    def steps(self, steps: Sequence[StepRecord], **place) -> list[StepRecord]:
        """The numbers of steps that the policy allows."""
        with self._written("metrics", place) as entry:
            allowed, dropped = allowed_steps(steps, self.policy.metrics)
            entry |= {"count": len(allowed), "rules": dropped, **fingerprint(as_json({"steps": allowed}))}
        return allowed

    def scores(self, answer: ValidateAnswer, **place) -> ValidateAnswer:
        """The scores of an evaluation that the policy allows."""
        with self._written("metrics", place) as entry:
            allowed, dropped = allowed_scores(answer.scores, self.policy.metrics)
            answer = answer.model_copy(update={"scores": allowed})
            count = 1 + (allowed.heldout is not None)
            entry |= {"count": count, "rules": dropped, **fingerprint(as_json(answer.payload()))}
        return answer

    def error(self, text: str, refusal: bool, **place) -> str:
        """The text of an error for the server. A refusal is about the job, and is always sent."""
        with self._written("error", place) as entry:
            sent = text if refusal or self.policy.metrics.error_text else WITHHELD
            entry |= {"count": 1, "rules": {}, **fingerprint(sent.encode())}
        return sent

    def block(self, reason: str, **place) -> None:
        """Log that a message was refused before any rule was applied to it."""
        self.log.refused(reason, **self._place, **place, kind="unknown")

    def charge_steps(self, steps: int, private_problems: int) -> None:
        """Charge private steps with noise before they are taken. If that raises BudgetSpent, nothing was charged."""
        if self.job.privacy.mode == "dp_grpo" and steps:
            rules = self.policy.training
            charge = self._steps(steps, private_problems)
            self.ledger.charge(self.config.model, self._place["job"], charge, rules.delta, rules.max_epsilon)

    def check_plan(self, private_problems: int, rounds_done: int = 0) -> None:
        """Raises Refused if the noisy steps and releases that the job plans would exceed the budgets. Rounds that an
        earlier job of the same run has done do not count."""
        for charge, rules in self._planned(self.job.federation.rounds - rounds_done, private_problems):
            check_budget(self.ledger, self.config.model, charge, rules)

    def planned_costs(self, private_problems: int) -> list[str]:
        """In words, how much of each budget would be spent after everything that the job plans."""
        return [
            budget_in_words(self.ledger.planned(self.config.model, [charge], rules.delta), rules, type(charge))
            for charge, rules in self._planned(self.job.federation.rounds, private_problems)
        ]

    def _planned(self, rounds: int, private_problems: int) -> list[tuple[Charge, AdapterRules | TrainingRules]]:
        """What so many rounds would charge to the ledger, each with the rules that limit it."""
        adapters, planned = self.policy.adapters, []
        if rounds > 0 and adapters.noise_multiplier > 0:
            planned.append((SiteNoise(adapters.noise_multiplier, rounds), adapters))
        if rounds > 0 and self.job.privacy.mode == "dp_grpo":
            steps = planned_private_steps(self.job) // self.job.federation.rounds * rounds
            planned.append((self._steps(steps, private_problems), self.policy.training))
        return planned

    def check_job(self) -> None:
        """Raises Refused if the job does not do what the policy requires, or a rule cannot be applied here; BrokenLog
        if lines are missing from the ledger that the log has seen."""
        self.ledger.check_knows(self.log.last_ledger())
        _ = self._names, self._presidio  # read them now: an error should come before any work is done
        required, mode = self.policy.training.require, self.job.privacy.mode
        if required == "dp_grpo" and mode != "dp_grpo":
            raise Refused(f"this site requires privacy.mode: dp_grpo; the job has privacy.mode: {mode}")

    def _steps(self, steps: int, private_problems: int) -> ExampleNoise:
        rate = min(1.0, self.job.grpo.prompts_per_step / private_problems)
        return ExampleNoise(rate, self.job.privacy.noise_multiplier, self.job.grpo.num_iterations, steps)

    def _context(self) -> Context:
        return Context(
            asked_ids=frozenset(self.asked & self._public.keys()),
            verify=self._right,
            index=self._index,
            released_in_job=self._answers_released,
            names=self._names,
            presidio=self._presidio,
        )

    def _right(self, response: PublicResponse) -> bool:
        shown = self._task.variant(self._public[response.problem_id], response.variant)
        return self._task.verify(shown, response.text).reward >= 1.0

    @cached_property
    def _task(self):
        return task_named(self.job.task, self.job.verifier)

    @cached_property
    def _public(self) -> dict[str, Problem]:
        return {problem.id: problem for problem in read_problems(self.config.public_problems, self._task)}

    @cached_property
    def _index(self) -> PrivateIndex:
        paths = [self.config.private_problems, self.config.heldout_problems]
        private = [problem for path in paths if path for problem in read_problems(path, self._task)]
        return PrivateIndex.build(private, self._public.values(), self.policy.responses.ngram)

    @cached_property
    def _names(self) -> Names | None:
        path = self.policy.responses.names
        try:
            return Names(path.read_text(encoding="utf-8").splitlines()) if path else None
        except (OSError, UnicodeDecodeError):
            raise Refused(f"responses.names: {path} cannot be read as text") from None

    @cached_property
    def _presidio(self) -> Presidio | None:
        rules = self.policy.responses.presidio
        return Presidio(rules) if rules and self.policy.responses.share else None

    @cached_property
    def _answers_released(self) -> int:
        return self.log.answers_released(self._place["job"])

    def _written(self, kind: str, place: dict) -> AbstractContextManager[dict]:
        return self.log.written(**self._place, **place, kind=kind, ledger=self.ledger.last_hash())
