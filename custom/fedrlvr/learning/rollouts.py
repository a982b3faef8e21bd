"""From problems to verified groups: sample with the current policy, decode, verify."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedrlvr.learning.generator import Generator, Sample
from fedrlvr.learning.model import Policy
from fedrlvr.learning.ranks import Ranks
from fedrlvr.protocol.records import PublicResponse
from fedrlvr.tasks import Task
from fedrlvr.tasks.task import CUT_OFF
from fedrlvr.types import Completion, Group, Problem


@dataclass
class Rollouts:
    """Samples groups for problems. Every rank gets all groups; each samples its share. Where the generator's
    log-probabilities are not training's, the step has to score the completions afresh."""

    policy: Policy
    generator: Generator
    task: Task
    ranks: Ranks
    max_completion_length: int
    temperature: float

    def groups(self, problems: Sequence[Problem], num_generations: int, seed: int) -> tuple[list[Group], float]:
        """One verified group per problem, and the mean entropy (nats per token) of the sampled distributions.

        `seed` fixes every token; which rank samples a problem does not matter.
        """
        random = torch.Generator().manual_seed(seed)
        return self.groups_from(
            problems, torch.rand(len(problems), num_generations, self.max_completion_length, generator=random)
        )

    def groups_from(self, problems: Sequence[Problem], uniforms: torch.Tensor) -> tuple[list[Group], float]:
        """As `groups`, with the random numbers in [0, 1) that decide the tokens, B x G x T."""
        mine = self.ranks.share(list(zip(problems, uniforms, strict=True)))
        sampled: list[tuple[Group, float]] = []
        prompts = [self.policy.encode_prompt(self.task.prompt(problem)) for problem, _ in mine]
        rows = torch.cat([uniforms[:0].flatten(0, 1), *(rows for _, rows in mine)])
        for (problem, _), samples in zip(mine, self.generator.sample(prompts, self.temperature, rows), strict=True):
            group = Group(problem, tuple(self._completion(problem, sample) for sample in samples))
            sampled.append((group, sum(sample.entropy for sample in samples) / len(samples)))
        everything = self.ranks.gather(sampled)
        return [group for group, _ in everything], sum(entropy for _, entropy in everything) / max(len(everything), 1)

    def _completion(self, problem: Problem, sample: Sample) -> Completion:
        ids = sample.token_ids if sample.truncated else sample.token_ids[:-1]
        text = self.policy.decode(ids)
        logprobs = sample.logprobs if self.generator.exact_logprobs else None
        reward, reason = self.task.verify(problem, text)
        return Completion(sample.token_ids, logprobs, text, reward, sample.truncated, reason=reason)

    def received(self, problem: Problem, site: str, response: PublicResponse) -> Completion | None:
        """Another `site`'s answer to `problem` as a completion of ours, or None if our own verifier does not find it
        right, or if it does not fit the completion length."""
        token_ids = (*self.policy.encode(response.text), self.policy.eos_ids[0])
        if len(token_ids) > self.max_completion_length:
            return None
        shown = self.task.variant(problem, response.variant)
        reward, reason = self.task.verify(shown, response.text)
        if reward < 1.0:
            return None
        return Completion(token_ids, None, response.text, reward, origin=site, reason=reason, problem=shown)


def rollout_metrics(groups: Sequence[Group], entropy: float) -> dict[str, float]:
    """TRL's names. `reward_std` is the mean over groups; `live_groups` counts those with any spread. Means over
    nothing, as of a Poisson sample without a problem, are 0."""
    completions = [c for group in groups for c in group.completions]
    lengths = [len(c.token_ids) for c in completions]
    stds = [torch.tensor(group.rewards).std().item() for group in groups]
    live = sum(len(set(group.rewards)) > 1 for group in groups)
    return {
        "reward": sum(c.reward for c in completions) / max(len(completions), 1),
        "reward_std": sum(stds) / max(len(stds), 1),
        "frac_reward_zero_std": 1 - live / max(len(groups), 1),
        "live_groups": float(live),
        "groups": float(len(groups)),
        "completions": float(len(completions)),
        "verifier/timeouts": float(sum(c.reason in CUT_OFF for c in completions)),
        "completions/mean_length": sum(lengths) / max(len(lengths), 1),
        "completions/clipped_ratio": sum(c.truncated for c in completions) / max(len(completions), 1),
        "num_tokens": float(sum(lengths)),
        "entropy": entropy,
    }
