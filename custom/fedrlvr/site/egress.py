"""The site's gate: every answer to the server is checked, limited, charged to the ledger and logged here.

This file applies the rules of `privacy/` to the answers of a job's worker. It fails closed: after an exception here
nothing leaves.
"""

import logging
from collections import Counter
from contextlib import AbstractContextManager
from functools import cached_property

from fedrlvr.algorithms.aggregate import AGGREGATORS
from fedrlvr.algorithms.methods import asks_logprobs
from fedrlvr.algorithms.schedule import planned_private_steps
from fedrlvr.config import JobConfig
from fedrlvr.data.problems import ProblemFileError, content_hash, read_problems
from fedrlvr.privacy.accountant import Charge, ExampleNoise, SiteNoise
from fedrlvr.privacy.adapter_release import AdapterRelease, budget_in_words, check_budget, loose_delta
from fedrlvr.privacy.answers import (
    COMPARING,
    Context,
    Given,
    allowed_findings,
    allowed_scores,
    allowed_shares,
    allowed_steps,
    filter_responses,
)
from fedrlvr.privacy.egress_log import RELEASED, EgressLog, error_entry, fingerprint
from fedrlvr.privacy.everyday import everyday_words
from fedrlvr.privacy.ledger import Ledger, Source
from fedrlvr.privacy.overlap import PrivateIndex
from fedrlvr.privacy.pii import Names, Presidio
from fedrlvr.privacy.policy import AdapterRules, SitePolicy, TrainingRules
from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.protocol.answers import Answer, Failure, ProposeAnswer, Reply, StepsAnswer, SubmitAnswer, ValidateAnswer
from fedrlvr.protocol.records import PublicResponse
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.strict import as_json
from fedrlvr.site.private_texts import private_index, site_names
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import task_named
from fedrlvr.types import Adapter, Problem

LOGGER = logging.getLogger(__name__)
KINDS = {SubmitAnswer: "adapter", ProposeAnswer: "responses", StepsAnswer: "metrics", ValidateAnswer: "metrics"}
WITHHELD = (
    "the site could not do this task; there, `fedrlvr egress show` says why, and worker.log in state_dir says more"
)


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
        self._given = Given()
        self._place = {"site": site, "job": job_id, "model": config.model}

    def release(self, task: str, answer: Answer | Failure, tensors: Adapter | None) -> Reply:
        """The answer as it may leave, or a failure in its place. It is in the site's log before this returns."""
        try:
            if isinstance(answer, Failure):
                return self._failure(answer, task), None
            answer, tensors = self._answer(answer, tensors, task)
            return answer.model_copy(update={"receipt": self.log.last_hash()}), tensors
        except Refused as reason:
            return _refused(task, reason), None

    def block(self, task: str, reason: str) -> Failure:
        """What leaves in place of a message to which no rule can be applied; the log tells of it."""
        try:
            self.log.refused(reason, **self._place, task=task, kind="unknown")
        except Refused as unwritten:
            return _refused(task, unwritten)
        return _refused(task, reason)

    def _failure(self, failure: Failure, task: str) -> Failure:
        """A refusal is of the job or a request, and its reason, in our own words, is always sent."""
        with self._written("error", task=task) as entry:
            told = failure.reason if failure.would_not or self.policy.metrics.error_text else WITHHELD
            entry |= error_entry(told, failure.reason)
        return failure.model_copy(update={"reason": told})

    def _answer(self, answer: Answer, tensors: Adapter | None, task: str) -> tuple[Answer, Adapter | None]:
        kind, here = KINDS.get(type(answer), "unknown"), answer.envelope
        with self._written(kind, task=task, round=here.round, segment=here.segment) as entry:
            self.ledger.check_knows(self.log.last_ledger())
            if tensors is not None and kind != "adapter":
                raise Refused("tensors beside an answer that has none")
            answer, tensors, count, rules = self._allowed(answer, tensors)
            entry |= {"count": count, "rules": rules, **fingerprint(as_bytes(answer, tensors))}
            entry["ledger"] = self.ledger.last_hash()  # with the charge for an adapter
        if kind == "responses":
            self._answers.update(rules | {RELEASED: count})
        # How long private steps took tells how many problems were in them, and how long their completions.
        seconds = answer.seconds if self.policy.metrics.private_steps else 0.0
        return answer.model_copy(update={"seconds": seconds}), tensors

    def _allowed(self, answer: Answer, tensors: Adapter | None) -> tuple[Answer, Adapter | None, int, dict]:
        """What may leave of an answer, how many things that are, and what each rule took out or measured."""
        metrics = self.policy.metrics
        match answer:
            case SubmitAnswer():
                frozen = AGGREGATORS[self.job.federation.aggregator].frozen(self.adapter_spec, answer.envelope.round)
                tensors, measured = self._release_adapter(tensors or {}, self.adapter_spec, frozen)
                return answer, tensors, len(tensors), measured
            case ProposeAnswer():
                kept, dropped = filter_responses(answer.responses, self.policy.responses, self._context())
                shares, told = allowed_shares(answer.shares, metrics, self.asked)
                answer = answer.model_copy(update={"responses": kept, "shares": shares})
                return answer, None, len(kept), dropped | told
            case StepsAnswer():
                steps, dropped = allowed_steps(answer.steps, metrics)
                findings, told = allowed_findings(answer.findings, metrics, self.policy.responses.share)
                answer = answer.model_copy(update={"steps": steps, "findings": findings})
                return answer, None, len(steps), dropped | told
            case ValidateAnswer():
                scores, dropped = allowed_scores(answer.scores, metrics)
                count = 1 + (scores.heldout is not None)
                return answer.model_copy(update={"scores": scores}), None, count, dropped
        raise Refused("an answer of an unknown kind")

    def charge_steps(self, steps: int, private_problems: int) -> None:
        """Charge private steps with noise before they are taken. If that raises Refused, nothing was charged."""
        if self.job.privacy.mode == "dp_grpo" and steps:
            rules = self.policy.training
            charge = self._steps(steps, private_problems)
            self.ledger.charge(self._source, self._place["job"], charge, rules.delta, rules.max_epsilon)

    def check_plan(self, private_problems: int, rounds_done: int = 0) -> None:
        """Raises Refused if the job plans updates of too few problems, or if its noisy steps and releases would exceed
        the budgets. Rounds that an earlier job of the same run has done do not count."""
        self.check_update(planned_private_steps(self.job) // self.job.federation.rounds, private_problems)
        for charge, rules in self._planned(self.job.federation.rounds - rounds_done, private_problems):
            check_budget(self.ledger, self._source, charge, rules)
        if warning := self._loose_delta(private_problems):
            LOGGER.warning("%s", warning)

    def check_update(self, private_steps: int, private_problems: int) -> None:
        """Raises Refused where so few problems are behind a round's update that it would tell of single ones."""
        least, drawn = self.policy.adapters.min_problems, private_steps * self.job.grpo.prompts_per_step
        if min(private_problems, drawn) < least:
            raise Refused(
                f"a round's update would come from too few private problems: adapters.min_problems is {least}, and "
                + (f"its private steps draw only {drawn}" if drawn < least else "this site has fewer")
            )

    def planned_costs(self, private_problems: int) -> list[str]:
        """In sentences, how much of each budget would be spent after everything that the job plans, and a warning where
        delta is too large."""
        costs = []
        for charge, rules in self._planned(self.job.federation.rounds, private_problems):
            cost = budget_in_words([*self.ledger.charges(self._source, type(charge)), charge], rules)
            costs.append(f"the whole job would bring {self.config.model} to {cost}")
        warning = self._loose_delta(private_problems)
        return [*costs, f"warning: {warning}"] if warning else costs

    def _loose_delta(self, private_problems: int) -> str:
        noisy = self.job.privacy.mode == "dp_grpo"
        return loose_delta(self.policy.training, private_problems) if noisy else ""

    def _planned(self, rounds: int, private_problems: int) -> list[tuple[Charge, AdapterRules | TrainingRules]]:
        """What so many rounds would charge to the ledger, each with the rules that limit it."""
        adapters, planned = self.policy.adapters, []
        if rounds > 0 and adapters.noise_multiplier > 0:
            planned.append((SiteNoise(adapters.noise_multiplier, rounds), adapters))
        if rounds > 0 and self.job.privacy.mode == "dp_grpo":
            steps = planned_private_steps(self.job) // self.job.federation.rounds * rounds
            planned.append((self._steps(steps, private_problems), self.policy.training))
        return planned

    def check_records(self, receipt: str) -> None:
        """Raises BrokenLog where log or ledger are older copies; `receipt` is the server's last one for this log."""
        self.log.check_receipt(receipt, self.policy.lost_receipts)
        self.ledger.check_knows(self.log.last_ledger())

    def check_job(self) -> None:
        """Raises Refused if the job does not do what the policy requires, or a rule cannot be applied here; BrokenLog
        if lines are missing from the ledger that the log has seen."""
        self.check_records(receipt="")
        # Read them now: an error should come before any work is done.
        _ = self._names, self._presidio, everyday_words(self.policy.responses.languages)
        required, mode = self.policy.training.require, self.job.privacy.mode
        if required == "dp_grpo" and mode != "dp_grpo":
            raise Refused(f"this site requires privacy.mode: dp_grpo; the job has privacy.mode: {mode}")
        rules = self.policy.responses
        if asks_logprobs(self.job) and rules.share and not rules.logprobs:
            raise Refused(
                "the job has swap.off_policy: ratio, for which answers take the log-probabilities of their tokens "
                "along; at this site these stay (responses.logprobs: false)"
            )
        if (exceeded := self.policy.limits.exceeded(self.job)) is not None:
            raise Refused(exceeded)

    def _steps(self, steps: int, private_problems: int) -> ExampleNoise:
        rate = min(1.0, self.job.grpo.prompts_per_step / private_problems)
        return ExampleNoise(rate, self.job.privacy.noise_multiplier, self.job.grpo.num_iterations, steps)

    def _context(self) -> Context:
        return Context(
            asked_ids=frozenset(self.asked & self._public.keys()),
            verify=self._right,
            index=self._index,
            released_in_job=self._answers[RELEASED],
            private_drops=sum(self._answers[rule] for rule in COMPARING),
            given_in_job=self._given,
            names=self._names,
            presidio=self._presidio,
        )

    def _right(self, response: PublicResponse) -> bool:
        shown = self._task.variant(self._public[response.problem_id], response.variant)
        return self._task.verify(shown, response.text).reward >= 1.0

    @cached_property
    def _source(self) -> Source:
        """Raises Refused for private problems that cannot be read."""
        if self.policy.adapters.noise_multiplier == 0 and self.job.privacy.mode != "dp_grpo":
            return Source(self.config.model)  # nothing is charged
        try:
            return Source(self.config.model, content_hash(self.config.private_problems))
        except ProblemFileError as error:
            raise Refused(str(error)) from None

    @cached_property
    def _release_adapter(self) -> AdapterRelease:
        return AdapterRelease(self.policy.adapters, self.ledger, self._source, self._place["job"])

    @cached_property
    def _task(self):
        return task_named(self.job.task, self.job.verifier)

    @cached_property
    def _public(self) -> dict[str, Problem]:
        return {problem.id: problem for problem in read_problems(self.config.public_problems, self._task)}

    @cached_property
    def _index(self) -> PrivateIndex:
        private = [path for path in (self.config.private_problems, self.config.heldout_problems) if path]
        return private_index(self.policy.responses, private, [self.config.public_problems])

    @cached_property
    def _names(self) -> Names | None:
        return site_names(self.policy.responses)

    @cached_property
    def _presidio(self) -> Presidio | None:
        rules = self.policy.responses.presidio
        return Presidio(rules) if rules and self.policy.responses.share else None

    @cached_property
    def _answers(self) -> Counter[str]:
        return self.log.answers(self._place["job"])

    def _written(self, kind: str, **place) -> AbstractContextManager[dict]:
        # Of a ledger that went back the log takes nothing in, or it would forget that lines are missing.
        sound = self.ledger.knows(self.log.last_ledger())
        ledger = self.ledger.last_hash() if sound else ""
        return self.log.written(**self._place, **place, kind=kind, ledger=ledger)


def as_bytes(answer: Answer, tensors: Adapter | None) -> bytes:
    """Exactly what leaves: the tensors beside an answer, or else what it says."""
    return as_json(answer.payload()) if tensors is None else as_safetensors(tensors)


def _refused(task: str, reason: object) -> Failure:
    LOGGER.error("%s: not released: %s", task, reason)
    return Failure.of(f"refused by the site's privacy policy: {reason}", would_not=True)
