"""One GRPO step: groups with rewards in, optimizer steps out. Own, swapped and mixed groups take the same path."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fedrlvr.algorithms.advantages import group_advantages
from fedrlvr.algorithms.entropy import high_entropy_masks
from fedrlvr.algorithms.loss import StepSize, kl_to_reference, policy_objective, token_weights
from fedrlvr.algorithms.off_policy import capped_ratio_objective, shaped_objective
from fedrlvr.algorithms.rewards import total_reward
from fedrlvr.config import GrpoSettings, SwapSettings
from fedrlvr.learning.batch import Batch, Row, collate, micro_batches
from fedrlvr.learning.engine import Engine
from fedrlvr.learning.finite import check_finite
from fedrlvr.learning.ranks import Ranks
from fedrlvr.tasks import Task
from fedrlvr.types import Completion, Group, Problem


class GrpoStep:
    """`num_iterations` passes over a batch of groups, `num_minibatches` optimizer steps each.

    Completions that cannot move the policy are left out: those of groups whose advantages are all 0, others with
    advantage 0, and masked ones. With `beta` > 0 the KL term needs all that are not masked, and so do entropies. The
    loss is still divided by what it would be divided by with them, so leaving some out only saves time.
    """

    def __init__(
        self,
        engine: Engine,
        task: Task,
        settings: GrpoSettings,
        ranks: Ranks,
        micro_batch_size: int,
        swap: SwapSettings | None = None,
    ):
        self.engine, self.task, self.settings, self.ranks = engine, task, settings, ranks
        self.swap = swap or SwapSettings()
        self.micro_batch_size = micro_batch_size
        # The one optimizer step of a batch begins where the completions' "old" policy is: the ratio is 1.
        self.one_step = settings.num_iterations == settings.num_minibatches == 1

    def __call__(
        self, groups: Sequence[Group], random: np.random.Generator, rates: Sequence[float] | None = None
    ) -> dict[str, float]:
        """Train on `groups`; `rates` are the learning rates of the optimizer steps, None: as before.

        Returns the step's metrics under TRL's names; swap/ratio_* are over tokens of swapped completions. If no row has
        a signal, no optimizer step is taken. Raises NotFinite for a loss or a gradient that is not finite: no step
        after it could be right.
        """
        rows = self.scored(self.rows(groups))
        size, meter = self._size(groups), Meter()
        for iteration in range(self.settings.num_iterations if rows else 0):
            order = random.permutation(len(rows))
            for number, part in enumerate(np.array_split(order, self.settings.num_minibatches)):
                if some := self._of_high_entropy([rows[i] for i in part]):
                    if rates:
                        self.engine.set_learning_rate(rates[iteration * self.settings.num_minibatches + number])
                    seed = int(random.integers(2**63)) if self.engine.random_dropout else 0
                    with self.engine.training(seed):
                        self._optimizer_step(some, size, meter)
        return meter.means()

    def rows(self, groups: Sequence[Group]) -> list[Row]:
        """Every completion that moves the policy or counts among its tokens' entropies, with its advantage."""
        settings = self.settings
        all_count = settings.beta > 0 or settings.needs_entropies
        advantages = group_advantages(
            groups, settings.scale_rewards, settings.negative_advantage_scale, lambda made: total_reward(made, settings)
        )
        return [
            self.row(group.problem, completion, float(advantage))
            for group, values in zip(groups, advantages, strict=True)
            for completion, advantage in zip(group.completions, values, strict=True)
            if (advantage != 0 or all_count) and self._in_loss(completion)
        ]

    def row(self, problem: Problem, completion: Completion, advantage: float = 0.0) -> Row:
        return Row(
            prompt_ids=self.engine.policy.encode_prompt(self.task.prompt(completion.problem or problem)),
            completion_ids=completion.token_ids,
            old_logprobs=completion.logprobs or (),
            advantage=advantage,
            swapped=bool(completion.origin),
            sender_logprobs=completion.sender_logprobs,
        )

    def scored(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with all log-probabilities that the loss needs. Old ones are those that sampling found, else those
        of the policy now: of swapped completions always, of own ones where sampling computes less exactly than training
        does. With `beta` > 0, reference ones are those of the frozen base model."""
        rows = list(rows)
        missing = [] if self.one_step else [i for i, row in enumerate(rows) if not row.old_logprobs]
        for i, logprobs in zip(missing, self.score([rows[i] for i in missing]), strict=True):
            rows[i] = replace(rows[i], old_logprobs=logprobs)
        if self.settings.beta > 0:
            references = self.score(rows, reference=True)
            rows = [replace(row, reference_logprobs=r) for row, r in zip(rows, references, strict=True)]
        return rows

    def score(self, rows: Sequence[Row], reference: bool = False, entropies: bool = False) -> list[tuple[float, ...]]:
        """Log-probabilities of the rows' completions under the current policy, or under the frozen base model; with
        `entropies`, those of the tokens' distributions in their place."""
        mine = self.ranks.share(rows)
        return self.ranks.gather(self.engine.score(mine, self.micro_batch_size, reference, entropies))

    def loss(self, rows: Sequence[Row], size: StepSize, meter: "Meter") -> torch.Tensor:
        """The part that these rows have in the loss of a step of `size`."""
        settings = self.settings
        batch = collate(rows, self.engine.policy.pad_id, self.engine.device)
        with_entropies = settings.entropy_coef > 0
        values = self.engine.logprobs(batch, with_entropies)
        logprobs = values[0] if with_entropies else values
        old = logprobs.detach() if self.one_step else batch.old_logprobs
        objective, clips = policy_objective(logprobs, old, batch.advantages, batch.mask, settings)
        if self.swap.off_policy != "receiver":
            swapped = batch.swapped.unsqueeze(-1)
            objective = torch.where(swapped, self._off_policy(logprobs, batch), objective)
            clips = {name: clipped & ~swapped for name, clipped in clips.items()}
        loss_per_token = -objective
        if settings.top_entropy_quantile < 1:
            loss_per_token = loss_per_token * batch.entropy_mask
        if settings.beta > 0:
            divergence = kl_to_reference(logprobs, batch.reference_logprobs)
            loss_per_token = loss_per_token + settings.beta * divergence
            meter.tokens("kl", divergence, batch.mask)
        loss = (loss_per_token * token_weights(batch.mask, settings.loss_type, size)).sum()
        if with_entropies:
            loss = loss - settings.entropy_coef * (values[1] * batch.entropy_mask).sum() / size.entropy_tokens
        for name, clipped in clips.items():  # where a completion has one value, its first token stands for it
            meter.tokens(name, clipped.float(), batch.mask[:, : clipped.shape[1]])
        meter.ratios((logprobs - old).detach().exp(), batch.mask & batch.swapped.unsqueeze(-1))
        return loss

    def _off_policy(self, logprobs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The objective of swapped tokens, where it is not that of own ones."""
        if self.swap.off_policy == "shaped":
            return shaped_objective(logprobs, batch.advantages, self.swap.shaping_gamma)
        return capped_ratio_objective(logprobs, batch.sender_logprobs, batch.advantages, self.swap.ratio_cap)

    def _of_high_entropy(self, rows: list[Row]) -> list[Row]:
        """The rows of an optimizer step, with the mask of `top_entropy_quantile`; those that then have no part in the
        loss are left out. Entropies are those of the policy now, without dropout, of the whole step: but for
        rounding, micro-batches of any size give the same masks."""
        settings = self.settings
        if settings.top_entropy_quantile == 1 or not rows:
            return rows
        masks = high_entropy_masks(self.score(rows, entropies=True), settings.top_entropy_quantile)
        return [
            replace(row, entropy_mask=mask)
            for row, mask in zip(rows, masks, strict=True)
            if settings.beta > 0 or (any(mask) and (row.advantage != 0 or settings.entropy_coef > 0))
        ]

    def _in_loss(self, completion: Completion) -> bool:
        masked = completion.truncated and self.settings.mask_truncated_completions
        return bool(completion.token_ids) and not masked  # of a prompt that is too long there are none

    def _size(self, groups: Sequence[Group]) -> StepSize:
        completions, minibatches = [c for g in groups for c in g.completions], self.settings.num_minibatches
        tokens = sum(len(c.token_ids) for c in completions if self._in_loss(c))
        return StepSize(len(completions) / minibatches, tokens / minibatches, self.settings.max_completion_length)

    def _optimizer_step(self, rows: list[Row], size: StepSize, meter: "Meter") -> None:
        if self.settings.entropy_coef > 0:
            tokens = sum(sum(row.entropy_mask) if row.entropy_mask else len(row.completion_ids) for row in rows)
            size = replace(size, entropy_tokens=tokens)
        # All ranks must run the same number of micro-batches, as they communicate in each. A rank without rows left
        # runs one row with weight 0.
        ranks = self.ranks.world_size
        parts = micro_batches(rows, min(self.micro_batch_size, math.ceil(len(rows) / ranks)))
        mine, count, total = self.ranks.share(parts), math.ceil(len(parts) / ranks), 0.0
        for number in range(count):
            part = [rows[i] for i in mine[number]] if number < len(mine) else []
            loss = self.loss(part, size, meter) if part else self._empty_loss(rows[0])
            self.engine.backward(loss, last=number == count - 1)
            total += float(loss.detach())
        total = sum(self.ranks.gather([total]))
        check_finite("loss of a step", total, self.engine.policy)
        meter.add("loss", total)
        meter.add("grad_norm", self.engine.step())

    def _empty_loss(self, row: Row) -> torch.Tensor:
        batch = collate([row], self.engine.policy.pad_id, self.engine.device)
        return self.engine.logprobs(batch).sum() * 0.0


class Meter:
    """Running means over a step's tokens, of this rank's rows."""

    def __init__(self):
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, float] = defaultdict(float)
        self._most: dict[str, float] = defaultdict(float)

    def add(self, name: str, total: float, count: float = 1.0) -> None:
        self._sums[name] += total
        self._counts[name] += count

    def tokens(self, name: str, values: torch.Tensor, mask: torch.Tensor) -> None:
        self.add(name, float(values.detach()[mask].sum()), float(mask.sum()))

    def ratios(self, ratio: torch.Tensor, mask: torch.Tensor) -> None:
        if bool(mask.any()):
            self.tokens("swap/ratio_mean", ratio, mask)
            self._most["swap/ratio_max"] = max(self._most["swap/ratio_max"], float(ratio[mask].max()))

    def means(self) -> dict[str, float]:
        """By name; `optimizer_steps` is how many gradient norms there are."""
        means = {name: total / max(self._counts[name], 1) for name, total in self._sums.items()}
        return means | self._most | {"optimizer_steps": self._counts["grad_norm"]}
