"""DP-GRPO: a private step whose outcome hardly depends on any one private problem.

Each problem takes part with the same small probability, its gradient is clipped, and noise hides the effect of a single
problem. This protects everything that is later made from the adapter: averages, and answers to public problems. It does
not protect the numbers that the step returns: they are exact, and a site's policy keeps them at the site.
"""

import math
from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch

from fedrlvr.algorithms.loss import StepSize
from fedrlvr.config import PrivacySettings
from fedrlvr.learning.batch import Row, micro_batches
from fedrlvr.learning.grpo_step import GrpoStep, Meter
from fedrlvr.privacy.mechanism import clip_gradient, gaussian, secret_random
from fedrlvr.types import Group, Problem


class DpStep:
    """`num_iterations` noisy optimizer steps on one Poisson sample of the private problems.

    The unit is one problem (add/remove). One step is the Poisson-subsampled Gaussian mechanism with sampling rate
    min(1, prompts_per_step / problems) and `noise_multiplier`, released `num_iterations` times on one sample
    (arXiv 1607.00133, algorithm 1, with a problem's whole group as the example). The contribution of a group does not
    depend on other groups: its loss is divided by num_generations x max_completion_length, and the sum by the
    *expected* number of problems. All randomness is secret and drawn by rank 0: the sampled problems, the tokens, the
    noise. Not hidden are the number of problems, which gives the sampling rate, and the duration of a step.
    """

    def __init__(self, step: GrpoStep, privacy: PrivacySettings, random: np.random.Generator | None = None):
        """`random` is for tests."""
        self.step, self.privacy = step, privacy
        self._random = random or secret_random()

    def seed(self) -> int:
        """A fresh secret seed, the same on every rank."""
        return self.step.ranks.broadcast(int(self._random.integers(2**62)))

    def sample(self, problems: Sequence[Problem]) -> list[Problem]:
        """A Poisson sample: each problem independently with the sampling rate; it may be empty."""
        chosen = self._random.random(len(problems)) < self.expected(len(problems)) / len(problems)
        return [problems[i] for i in self.step.ranks.broadcast(np.flatnonzero(chosen).tolist())]

    def expected(self, problems: int) -> float:
        """How many problems are sampled on average, out of `problems`."""
        return float(min(self.step.settings.prompts_per_step, problems))

    def __call__(
        self, groups: Sequence[Group], problems: int, rates: Sequence[float] | None = None
    ) -> dict[str, float]:
        """Train on the groups of the problems that were sampled out of `problems`; without groups, on noise alone.
        `rates` are the learning rates of the optimizer steps, None: as before.

        Returns the metrics of this rank's groups. `dp/grad_norm` is the mean norm of the finite gradients of groups,
        before they are clipped.
        """
        step, meter, norms = self.step, Meter(), []
        rows = self._rows(groups)
        for iteration in range(step.settings.num_iterations):
            if rates:
                step.engine.set_learning_rate(rates[iteration])
            total = [torch.zeros(p.shape, dtype=torch.float64) for p in step.engine.lora_parameters]
            seeds, losses = [self.seed() for _ in groups], []
            for group_rows, seed in step.ranks.share(list(zip(rows, seeds, strict=True))):
                gradient, loss = self._gradient(group_rows, seed, meter)
                part, norm = clip_gradient(gradient, self.privacy.clip_norm)
                norms.append(norm)
                losses.append(loss)
                total = [a + b.cpu() for a, b in zip(total, part, strict=True)]
            if step.ranks.rank == 0:  # once for the sum over all ranks
                std = self.privacy.noise_multiplier * self.privacy.clip_norm
                total = [part + gaussian(part.shape, std, self._random) for part in total]
            gradient = [part / self.expected(problems) for part in step.ranks.sum(total)]
            meter.add("loss", sum(step.ranks.gather([sum(losses)])) / self.expected(problems))
            meter.add("grad_norm", step.engine.apply_gradient(gradient))
        finite = [norm for norm in norms if math.isfinite(norm)]
        return meter.means() | {
            "dp/grad_norm": sum(finite) / max(len(finite), 1),
            "dp/clipped_fraction": sum(n > self.privacy.clip_norm for n in finite) / max(len(finite), 1),
        }

    def _rows(self, groups: Sequence[Group]) -> list[list[Row]]:
        """Of every group the rows that move the policy, with the log-probabilities that the loss needs."""
        rows = [self.step.rows([group]) for group in groups]
        scored = iter(self.step.scored([row for some in rows for row in some]))
        return [list(islice(scored, len(some))) for some in rows]

    def _gradient(self, rows: Sequence[Row], seed: int, meter: Meter) -> tuple[list[torch.Tensor], float]:
        """The gradient of one group's loss alone, computed in micro-batches, and that loss."""
        step, engine, value = self.step, self.step.engine, 0.0
        total = [torch.zeros_like(p, dtype=torch.float64) for p in engine.lora_parameters]
        size = StepSize(step.settings.num_generations, 0.0, step.settings.max_completion_length)
        with engine.training(seed, bare=True):
            for part in micro_batches(rows, step.micro_batch_size):
                loss = step.loss([rows[i] for i in part], size, meter)
                parts = torch.autograd.grad(loss, engine.lora_parameters)
                total = [a + b.double() for a, b in zip(total, parts, strict=True)]
                value += float(loss.detach())
        return total, value
