"""The learning rate of every optimizer step, by its place in the job.

It needs no state: a worker that starts again, or a site that missed a segment, goes on at the rate of all others.
"""

import math

import torch
from transformers import get_scheduler

from fedrlvr.algorithms.schedule import planned_steps, steps_per_segment
from fedrlvr.config import JobConfig


class LearningRate:
    """transformers' schedule over all optimizer steps that the job plans, whether or not each of them is taken."""

    def __init__(self, job: JobConfig):
        optimizer = job.optimizer
        self._per_segment = steps_per_segment(job)
        self._updates = job.grpo.num_iterations * job.grpo.num_minibatches  # optimizer steps of a sampled batch
        total, name = planned_steps(job) * self._updates, optimizer.lr_scheduler_type
        one = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        scheduler = get_scheduler(
            "constant_with_warmup" if name == "constant" else name,
            one,
            num_warmup_steps=math.ceil(optimizer.warmup_ratio * total),
            num_training_steps=total,
        )
        self._highest, self._share = optimizer.learning_rate, scheduler.lr_lambdas[0]

    def of_batch(self, segment: int, number: int) -> list[float]:
        """The rates of the optimizer steps on the batch `number` of a segment, both counted from 0; the public batch
        comes after the private ones."""
        first = (segment * self._per_segment + number) * self._updates
        return [self._highest * self._share(step) for step in range(first, first + self._updates)]
