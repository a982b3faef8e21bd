"""One GRPO step: groups with rewards in, optimizer steps out. Own, swapped and mixed groups take the same path."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from fedrlvr.algorithms.advantages import group_advantages, has_signal
from fedrlvr.algorithms.loss import StepSize, clipped_objective, kl_to_reference, token_weights
from fedrlvr.config import GrpoSettings
from fedrlvr.learning.batch import Row, collate
from fedrlvr.learning.engine import Engine
from fedrlvr.learning.ranks import Ranks
from fedrlvr.tasks import Task
from fedrlvr.types import Completion, Group, Problem


class GrpoStep:
    """`num_iterations` passes over a batch of groups, `num_minibatches` optimizer steps each.

    Groups whose advantages are all 0 are left out, as their gradient is 0; with `beta` > 0 the KL term needs them.
    The loss is still divided by the number of all groups, so leaving some out only saves time.
    """

    def __init__(self, engine: Engine, task: Task, settings: GrpoSettings, ranks: Ranks, micro_batch_size: int):
        self.engine, self.task, self.settings, self.ranks = engine, task, settings, ranks
        self.micro_batch_size = micro_batch_size

    def __call__(self, groups: Sequence[Group], random: np.random.Generator) -> dict[str, float]:
        """Train on `groups`, whose completions all have old log-probabilities.

        Returns the step's metrics under TRL's names; swap/ratio_* are over tokens of swapped completions. If no row has
        a signal, no optimizer step is taken.
        """
        rows = self.rows(groups)
        references = self.score(rows, reference=True) if self.settings.beta > 0 else [None] * len(rows)
        lengths, minibatches = [len(c.token_ids) for g in groups for c in g.completions], self.settings.num_minibatches
        size = StepSize(len(lengths) / minibatches, sum(lengths) / minibatches, self.settings.max_completion_length)
        meter = Meter()
        for _ in range(self.settings.num_iterations if rows else 0):
            order = random.permutation(len(rows))
            for part in np.array_split(order, minibatches):
                if len(part):
                    seed = int(random.integers(2**63)) if self.engine.random_dropout else 0
                    with self.engine.training(seed):
                        self._optimizer_step([rows[i] for i in part], [references[i] for i in part], size, meter)
        return meter.means()

    def row(self, problem: Problem, completion: Completion, advantage: float = 0.0) -> Row:
        return Row(
            prompt_ids=self.engine.policy.encode_prompt(self.task.prompt(completion.problem or problem)),
            completion_ids=completion.token_ids,
            old_logprobs=completion.logprobs or (),
            advantage=advantage,
            swapped=bool(completion.origin),
            in_loss=not (completion.truncated and self.settings.mask_truncated_completions),
        )

    def score(self, rows: Sequence[Row], reference: bool = False) -> list[tuple[float, ...]]:
        """Log-probabilities of the rows' completions under the current policy, or under the frozen base model."""
        return self.ranks.gather(self.engine.score(self.ranks.share(rows), self.micro_batch_size, reference))

    def rows(self, groups: Sequence[Group]) -> list[Row]:
        """Every completion that moves the policy, with its advantage."""
        settings = self.settings
        advantages = group_advantages(groups, settings.scale_rewards, settings.negative_advantage_scale)
        return [
            self.row(group.problem, completion, float(advantage))
            for group, values in zip(groups, advantages, strict=True)
            if has_signal(values) or settings.beta > 0
            for completion, advantage in zip(group.completions, values, strict=True)
        ]

    def _optimizer_step(self, rows: list[Row], references: list, size: StepSize, meter: "Meter") -> None:
        mine = self.ranks.share(list(zip(rows, references, strict=True)))
        # All ranks must run the same number of micro-batches, as they communicate in each. A rank without rows left
        # runs one row with weight 0.
        count = math.ceil(math.ceil(len(rows) / self.ranks.world_size) / self.micro_batch_size)
        parts = [mine[i * self.micro_batch_size : (i + 1) * self.micro_batch_size] for i in range(count)]
        for i, part in enumerate(parts):
            loss = self.loss(part, size, meter) if part else self._empty_loss(rows[0])
            self.engine.backward(loss, last=i == count - 1)
        meter.add("grad_norm", self.engine.step())

    def loss(self, part, size: StepSize, meter: "Meter") -> torch.Tensor:
        """The loss of `part`, pairs of a row and its reference log-probabilities (or None), in a step of `size`."""
        settings = self.settings
        batch = collate([row for row, _ in part], self.engine.policy.pad_id, self.engine.device)
        logprobs = self.engine.logprobs(batch)
        objective, clipped = clipped_objective(
            logprobs, batch.old_logprobs, batch.advantages, settings.epsilon, settings.epsilon_high
        )
        loss_per_token = -objective
        if settings.beta > 0:
            reference = torch.zeros_like(logprobs)
            for i, (_, values) in enumerate(part):
                reference[i, : len(values)] = torch.tensor(values)
            divergence = kl_to_reference(logprobs, reference)
            loss_per_token = loss_per_token + settings.beta * divergence
            meter.tokens("kl", divergence, batch.mask)
        loss = (loss_per_token * token_weights(batch.mask, settings.loss_type, size)).sum()
        meter.tokens("clip_ratio/region_mean", clipped.float(), batch.mask)
        meter.ratios((logprobs - batch.old_logprobs).detach().exp(), batch.mask & batch.swapped.unsqueeze(-1))
        meter.add("loss", float(loss.detach()))
        return loss

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
