"""What a site does in a round, as plain methods: begin a round, train, propose, swap, submit, validate.

The trainer takes its engine, rollouts and step as arguments and knows no transport: it runs alone, in a test, or behind
any transport. It keeps no random state and no cursor, as every draw comes from (seed, site, purpose, segment). So
`state` returns all that a run needs to go on from there.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np

from fedrlvr.algorithms.aggregate import AGGREGATORS
from fedrlvr.algorithms.findings import Notes
from fedrlvr.algorithms.methods import METHODS, asks_findings, asks_logprobs, asks_shares
from fedrlvr.algorithms.pool import ResponsePool
from fedrlvr.algorithms.right_shares import right_shares
from fedrlvr.algorithms.swap import replace_all, swap_incorrect, swap_metrics
from fedrlvr.config import JobConfig
from fedrlvr.learning.dp_step import DpStep
from fedrlvr.learning.evaluation import answer_shares, completion_record, evaluate
from fedrlvr.learning.grpo_step import GrpoStep
from fedrlvr.learning.learning_rate import LearningRate
from fedrlvr.learning.rollouts import Rollouts, rollout_metrics
from fedrlvr.learning.trainer_state import SiteProgress, TrainerState
from fedrlvr.protocol.records import MAX_TEXT, PooledResponse, PublicResponse, Segment, SiteScores, StepRecord
from fedrlvr.protocol.requests import places_to_measure
from fedrlvr.streams import epoch_batch, seed_of, stream
from fedrlvr.types import VARIANTS, Adapter, Completion, Group, Problem

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class SiteProblems:
    """The problems that a site trains on and is measured on. `public`, which all sites share, is by id."""

    private: list[Problem]
    public: dict[str, Problem]
    test: list[Problem]
    heldout: list[Problem]


@dataclass(eq=False)
class Trainer:
    """One site's learner. `dp_step` takes the private steps where the job asks for differential privacy. With
    `propose_from` "global", answers are sampled from the adapter that the server sent. With a `draws_key`, nobody who
    knows the job's seed can repeat the site's draws. `too_long` counts the problems of each set that are too long.
    `tell` gets what is done now, "sampling" or "training", and in which step of which segment; `listen` gets a public
    step's groups before and after the swap."""

    job: JobConfig
    site: str
    problems: SiteProblems
    rollouts: Rollouts
    step: GrpoStep
    dp_step: DpStep | None = None
    propose_from: str = "local"
    draws_key: str = ""
    too_long: Mapping[str, int] = field(default_factory=dict)
    tell: Callable[[str, int, int], None] = lambda doing, segment, step: None
    listen: Callable[[int, Sequence[Group], Sequence[Group]], None] = lambda segment, before, after: None

    def __post_init__(self):
        self.engine, self.method = self.step.engine, METHODS[self.job.method]
        self._own_seed = seed_of(self.job.seed, self.draws_key) if self.draws_key else self.job.seed
        self._rates = LearningRate(self.job)
        self.pool = ResponsePool(self.job.exchange.keep_pool, self.job.exchange.max_per_prompt)
        self._targets: dict[str, float] = {}
        self.notes, self._adaptive = Notes(self.job.exchange.max_per_site), asks_findings(self.job)
        self._start: Adapter = self.engine.adapter()
        self._given, self.progress = False, SiteProgress()
        self._proposed: tuple[int, list[Group], float] | None = None

    def state(self) -> TrainerState:
        engine = self.engine
        pool = [
            (c.origin, PublicResponse(c.problem.id, c.text, c.problem.variant, c.sender_logprobs))
            for c in self.pool.completions()
        ]
        return TrainerState(
            progress=self.progress,
            given=self._given,
            adapter=engine.adapter(),
            start=self._start,
            optimizer=engine.optimizer_state(),
            pool=pool,
            targets=dict(self._targets),
            found=self.notes.kept(),
            unsolved=sorted(self.notes.unsolved),
        )

    def restore(self, state: TrainerState) -> None:
        """Go back to where `state` was taken. Raises ValueError where it is not of this engine."""
        self.engine.load_adapter(state.adapter)
        self.engine.load_optimizer_state(state.optimizer)
        self._start, self._given, self.progress = state.start, state.given, state.progress
        self._proposed = None
        self.pool.replace(self._verified(state.pool)[0])
        self._targets = dict(state.targets)
        self.notes.replace(state.found, state.unsolved)
        self._freeze()

    def begin_round(self, adapter: Adapter | None, number: int) -> None:
        """Take over the averaged adapter (None: keep the own one) and forget the round before."""
        self.progress = SiteProgress(number, number * self.job.federation.segments_per_round)
        if adapter is not None:
            self.engine.load_adapter(adapter)
        self._start, self._given, self._proposed = self.engine.adapter(), adapter is not None, None
        if self.job.optimizer.reset_each_round:
            self.engine.reset_optimizer()
        self._freeze()

    def train(self, segments: Sequence[Segment], exchange: bool) -> list[StepRecord]:
        """Private steps of each segment, then its public step; with `exchange` the last one's is left to `swap`."""
        steps = []
        for segment in segments:
            steps += [self._private_step(segment, k) for k in range(segment.private_steps)]
            if segment.public_ids and not (exchange and segment is segments[-1]):
                groups, entropy = self._sample_public(segment)
                if self._adaptive and self.propose_from == "local":  # else no answer of this adapter may leave
                    self.notes.remember(self._offers(groups))
                steps.append(self._public_step(segment, {}, groups, entropy))
        done = segments[-1].index + (not exchange)
        self.progress = SiteProgress(self.progress.round, done, public_pending=exchange)
        return steps

    def propose(
        self, segment: Segment, wanted: Sequence[str] = ()
    ) -> tuple[list[PublicResponse], dict[str, float] | None]:
        """Answer a public batch, keep the whole groups, and offer the correct completions that ended by themselves.
        One that is too long for a record is not offered. The second is what share of each group is right, None where
        the job does not ask for it. Where problems are `wanted`, all right answers to these are offered that were found
        since they were offered last.

        Groups sampled from the server's adapter are not kept: the step is one of the site's own policy. What is told of
        them is of that adapter, too.
        """
        globally = self.propose_from == "global"
        with self._from_the_start() if globally else nullcontext():
            groups, entropy = self._sample_public(segment, "proposed" if globally else "public")
            offers = self._offers(groups)
        if not globally:
            self._proposed = (segment.index, groups, entropy)
        if wanted:
            self.notes.remember(offers)
            offers = self.notes.take(wanted)
        return offers, right_shares(groups) if asks_shares(self.job) else None

    def _offers(self, groups: Sequence[Group]) -> list[PublicResponse]:
        right, limit = [], self.job.exchange.max_per_site
        for group in groups:
            ended = (c for c in group.completions if c.correct and not c.truncated and len(c.text) <= MAX_TEXT)
            texts = dict.fromkeys(c.text for c in ended)
            right += [(group.problem, text) for text in list(texts)[:limit]]
        if asks_logprobs(self.job):
            return self._offers_with_logprobs(right)
        return [PublicResponse(problem.id, text, problem.variant) for problem, text in right]

    def _offers_with_logprobs(self, right: Sequence[tuple[Problem, str]]) -> list[PublicResponse]:
        """The log-probabilities are of the tokens as a receiver will have them, under the policy now. An answer that no
        receiver could use for its length is not offered."""
        fits = [(problem, text, ids) for problem, text in right if (ids := self.rollouts.tokens_of(text)) is not None]
        rows = [self.step.row(problem, Completion(ids, None, text, 1.0)) for problem, text, ids in fits]
        scored = zip(fits, self.step.score(rows), strict=True)
        # Rounding may leave a token that is certain just above 0.
        return [
            PublicResponse(problem.id, text, problem.variant, tuple(min(value, 0.0) for value in values))
            for (problem, text, _), values in scored
        ]

    def swap(
        self, segment: Segment, responses: Sequence[PooledResponse], targets: Mapping[str, float] | None = None
    ) -> StepRecord:
        """Verify what came, keep what is right, and take the public step on the groups proposed for this segment.

        Where none were proposed (this worker was started after the proposal), they are sampled now. `targets`, and for
        other problems those heard before, are what the swap's rule `match_global` swaps towards.
        """
        accepted, rejected = self._verified(responses)
        self.pool.add(accepted)
        self._targets |= targets or {}
        proposed, self._proposed = self._proposed, None
        groups, entropy = proposed[1:] if proposed and proposed[0] == segment.index else self._sample_public(segment)
        step = self._public_step(segment, rejected, groups, entropy)
        self.progress = SiteProgress(self.progress.round, segment.index + 1)
        return step

    def submit(self) -> Adapter:
        """The adapter's difference to the round's start."""
        now = self.engine.adapter()
        return {name: now[name] - self._start[name] for name in now}

    def validate(
        self,
        adapter: Adapter | None,
        samples: int,
        share: tuple[int, int] | None,
        name: str,
        problems: int | None = None,
    ) -> SiteScores:
        """pass@k on the test set and the site's held-out problems, under `adapter` (None: the current one).

        `share` = (i, n) measures only the i-th of n blocks of the test problems: sites that hold the same adapter split
        the work. Held-out problems are measured only with a `share`; without one, so many test `problems` are (None:
        all). Afterwards the current adapter and optimizer are as before.
        """
        places = places_to_measure([problem.label for problem in self.problems.test], share, problems)
        test, ks = [self.problems.test[place] for place in places], self.job.evaluation.k
        seed = seed_of(self.job.seed, "evaluation", name, *(share or ()))
        own_seed = seed_of(self._own_seed, "evaluation", name, self.site)
        with self.engine.borrowed(adapter) if adapter is not None else nullcontext():
            (scores, groups), heldout = evaluate(self.rollouts, test, samples, ks, seed), None
            if share is not None and self.problems.heldout:
                heldout, _ = evaluate(self.rollouts, self.problems.heldout, samples, ks, own_seed)
        shares = answer_shares([made for group in groups for made in group.completions])
        if groups and self.rollouts.ranks.rank == 0:
            shown = completion_record(groups[0].problem, groups[0].completions[0])
            LOGGER.info("measured %s: %s, %s; the first completion: %s", name, scores, shares, shown)
        return SiteScores(test=scores, heldout=heldout, **shares)

    def _freeze(self) -> None:
        """Have the engine train what this round trains."""
        aggregator = AGGREGATORS[self.job.federation.aggregator]
        self.engine.begin_round(aggregator.frozen(self._start, self.progress.round), self._start)

    def _private_step(self, segment: Segment, k: int) -> StepRecord:
        grpo, began, rates = self.job.grpo, time.perf_counter(), self._rates.of_batch(segment.index, k)
        self.tell("sampling", segment.index, k)
        if self.dp_step is not None:
            return _record("private", segment, began, self._dp_step(self.dp_step, rates, segment.index, k))
        number = segment.index * segment.private_steps + k
        own, names = self.problems.private, (self._own_seed, self.site, "private")
        problems = epoch_batch(own, number, grpo.prompts_per_step, *names)
        problems = self._shown(problems, stream(self._own_seed, self.site, "private variants", number))
        groups, entropy = self.rollouts.groups(problems, grpo.num_generations, self._seed("private rollout", number))
        self.tell("training", segment.index, k)
        metrics = rollout_metrics(groups, entropy, grpo) | self._update(groups, "private update", number, rates)
        return _record("private", segment, began, metrics)

    def _dp_step(self, step: DpStep, rates: Sequence[float], segment: int, k: int) -> dict[str, float]:
        """All random numbers are secret: none comes from the job's seed, which the server knows."""
        problems = self._shown(step.sample(self.problems.private), np.random.default_rng(step.seed()))
        groups, entropy = self.rollouts.groups(problems, self.job.grpo.num_generations, step.seed())
        self.tell("training", segment, k)
        metrics = step(groups, len(self.problems.private), rates)
        return rollout_metrics(groups, entropy, self.job.grpo) | metrics | {"learning_rate": rates[0]}

    def _public_step(self, segment: Segment, received: dict, groups: list[Group], entropy: float) -> StepRecord:
        began = time.perf_counter()
        mixed = self._swapped(segment, groups) if self.method.exchange else groups
        self.listen(segment.index, groups, mixed)
        metrics = rollout_metrics(groups, entropy, self.job.grpo) | swap_metrics(groups, mixed) | received
        rates = self._rates.of_batch(segment.index, segment.private_steps)
        if self._adaptive:
            self.notes.mark(mixed)
        self.tell("training", segment.index, segment.private_steps)
        metrics |= self._update(mixed, "public update", segment.index, rates)
        return _record("public", segment, began, metrics)

    def _sample_public(self, segment: Segment, purpose: str = "public") -> tuple[list[Group], float]:
        self.tell("sampling", segment.index, segment.private_steps)
        random = stream(self._own_seed, self.site, f"{purpose} variants", segment.index)
        asked = [self.problems.public[name] for name in segment.public_ids]
        problems = self._shown([problem for problem in asked if self.rollouts.fits(problem)], random)
        seed = self._seed(f"{purpose} rollout", segment.index)
        return self.rollouts.groups(problems, self.job.grpo.num_generations, seed)

    def _from_the_start(self) -> AbstractContextManager[None]:
        """The policy of the adapter that the round began with: what it writes tells the server, which sent it, nothing
        new."""
        if not self._given:
            raise ValueError("propose_from: global needs a round that began with an adapter of the server's")
        return self.engine.borrowed(self._start)

    def _shown(self, problems: Sequence[Problem], random: np.random.Generator) -> list[Problem]:
        """Each problem in a presentation of this site's own drawing."""
        return [self.rollouts.task.variant(problem, int(random.integers(VARIANTS))) for problem in problems]

    def _swapped(self, segment: Segment, groups: list[Group]) -> list[Group]:
        swap, random = self.job.swap, stream(self._own_seed, self.site, "pool draw", segment.index)
        drawn = [self.pool.draw(group.problem.id, random) for group in groups]
        if swap.prefer == "short":
            drawn = [sorted(pooled, key=lambda completion: len(completion.token_ids)) for pooled in drawn]
        elif swap.prefer == "likely":
            drawn = self._likely_first(groups, drawn)
        if self.method.replace_all:
            return [replace_all(group, pooled) for group, pooled in zip(groups, drawn, strict=True)]
        return [
            swap_incorrect(group, pooled, swap, self._targets.get(group.problem.id))
            for group, pooled in zip(groups, drawn, strict=True)
        ]

    def _likely_first(self, groups: Sequence[Group], drawn: Sequence[list[Completion]]) -> list[list[Completion]]:
        """By the mean log-probability of a token under this site's policy now, highest first. The completions have
        these log-probabilities then, and the step need not find them again."""
        rows = [self.step.row(g.problem, c) for g, pooled in zip(groups, drawn, strict=True) for c in pooled]
        scores = iter(self.step.score(rows))
        scored = [[replace(completion, logprobs=next(scores)) for completion in pooled] for pooled in drawn]
        return [sorted(pooled, key=lambda c: sum(c.logprobs) / len(c.logprobs), reverse=True) for pooled in scored]

    def _verified(self, responses: Sequence[PooledResponse]) -> tuple[list[Completion], dict[str, float]]:
        """Other sites' answers as completions of ours. What they may not send (answers to no public problem, wrong
        ones, and those whose log-probabilities do not fit) is dropped and counted."""
        known = [(site, response) for site, response in responses if response.problem_id in self.problems.public]
        scored, public = asks_logprobs(self.job), self.problems.public
        received = (self.rollouts.received(public[r.problem_id], site, r, scored) for site, r in known)
        right = [completion for completion in received if completion is not None]
        return right, {
            "exchange/received": float(len(responses)),
            "exchange/unknown_prompt": float(len(responses) - len(known)),
            "exchange/wrong": float(len(known) - len(right)),
        }

    def _update(self, groups: list[Group], purpose: str, number: int, rates: Sequence[float]) -> dict[str, float]:
        metrics = self.step(groups, stream(self._own_seed, self.site, purpose, number), rates)
        return metrics | {"learning_rate": rates[0]}

    def _seed(self, purpose: str, number: int) -> int:
        return seed_of(self._own_seed, self.site, purpose, number)


def _record(kind: str, segment: Segment, began: float, metrics: dict[str, float]) -> StepRecord:
    return StepRecord.of(kind, segment.index, {"step_time": time.perf_counter() - began} | metrics)
