"""From problems to verified groups: sample with the current policy, decode, verify."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from fedrlvr.algorithms.rewards import REWARDS, total_reward
from fedrlvr.config import GrpoSettings
from fedrlvr.learning.finite import check_finite
from fedrlvr.learning.generator import Generator, Sample
from fedrlvr.learning.model import Policy
from fedrlvr.learning.partitioned import in_step
from fedrlvr.learning.ranks import Ranks
from fedrlvr.protocol.records import PublicResponse
from fedrlvr.tasks import Task
from fedrlvr.tasks.task import CUT_OFF, UNANSWERED
from fedrlvr.types import Completion, Group, Problem

TOO_LONG = "prompt too long"  # the reason for the reward of a completion that was not sampled


@dataclass
class Rollouts:
    """Samples groups for problems. Every rank gets all groups; each samples its share. Where the generator's
    log-probabilities are not training's, the step has to score the completions afresh. The completions of a problem
    whose prompt is longer than `max_prompt_length` tokens (None: no limit) are empty and wrong."""

    policy: Policy
    generator: Generator
    task: Task
    ranks: Ranks
    max_completion_length: int
    temperature: float
    max_prompt_length: int | None = None
    listen: Callable[[Sequence[Group]], None] = lambda groups: None  # gets all groups, as they are sampled

    def fits(self, problem: Problem) -> bool:
        """Whether the problem's prompt is not too long."""
        return self.max_prompt_length is None or len(self._prompt(problem)) <= self.max_prompt_length

    def groups(self, problems: Sequence[Problem], num_generations: int, seed: int) -> tuple[list[Group], float]:
        """One verified group per problem, and the mean entropy (nats per token) of the sampled distributions.

        `seed` fixes every token; which rank samples a problem does not matter.
        """
        random = torch.Generator().manual_seed(seed)
        return self.groups_from(
            problems, torch.rand(len(problems), num_generations, self.max_completion_length, generator=random)
        )

    def groups_from(self, problems: Sequence[Problem], uniforms: torch.Tensor) -> tuple[list[Group], float]:
        """As `groups`, with the random numbers in [0, 1) that decide the tokens, B x G x T. Raises NotFinite where the
        model's logits are not numbers: what it answers then is no answer."""
        fit = torch.tensor([self.fits(problem) for problem in problems], dtype=torch.bool)
        rows = zip((p for p, fits in zip(problems, fit, strict=True) if fits), uniforms[fit], strict=True)
        mine = self.ranks.share(list(rows))
        prompts = [self._prompt(problem) for problem, _ in mine]
        draws = torch.cat([uniforms[:0].flatten(0, 1), *(rows for _, rows in mine)])
        with in_step(self.policy.model, self._read_one_token):
            groups = self.generator.sample(prompts, self.temperature, draws)
        sampled: list[tuple[Group, float, float]] = []
        for (problem, _), samples in zip(mine, groups, strict=True):
            group = Group(problem, tuple(self._completion(problem, sample) for sample in samples))
            logprob = sum(sum(sample.logprobs) for sample in samples)
            sampled.append((group, sum(sample.entropy for sample in samples) / len(samples), logprob))
        everything = self.ranks.gather(sampled)
        for _, _, logprob in everything:
            check_finite("log-probability of sampled tokens", logprob, self.policy)
        made = [group for group, _, _ in everything]
        self.listen(made)
        rest, unsolved = iter(made), Completion((), (), "", 0.0, reason=TOO_LONG)
        everyone = [
            next(rest) if fits else Group(problem, (unsolved,) * uniforms.shape[1])
            for problem, fits in zip(problems, fit, strict=True)
        ]
        return everyone, sum(entropy for _, entropy, _ in everything) / max(len(everything), 1)

    def _prompt(self, problem: Problem) -> tuple[int, ...]:
        return self.policy.encode_prompt(self.task.prompt(problem))

    @torch.no_grad()
    def _read_one_token(self) -> None:
        model = self.policy.model
        model(input_ids=torch.tensor([[self.policy.pad_id]], device=model.device), use_cache=False)

    def _completion(self, problem: Problem, sample: Sample) -> Completion:
        ids = sample.token_ids if sample.truncated else sample.token_ids[:-1]
        text = self.policy.decode(ids)
        logprobs = sample.logprobs if self.generator.exact_logprobs else None
        reward, reason = self.task.verify(problem, text)
        known = {"reason": reason, "verified": reason not in CUT_OFF, "answered": reason not in UNANSWERED}
        return Completion(sample.token_ids, logprobs, text, reward, sample.truncated, **known)

    def tokens_of(self, text: str) -> tuple[int, ...] | None:
        """The tokens that every site makes of an answer, with their end; None if they exceed the completion length."""
        token_ids = (*self.policy.encode(text), self.policy.eos_ids[0])
        return token_ids if len(token_ids) <= self.max_completion_length else None

    def received(
        self, problem: Problem, site: str, response: PublicResponse, with_logprobs: bool = False
    ) -> Completion | None:
        """Another `site`'s answer to `problem` as a completion of ours, or None if our own verifier does not find it
        right, if it does not fit the completion length, or if it lacks the sender's log-probabilities of exactly its
        tokens where it should have them."""
        token_ids = self.tokens_of(response.text)
        if token_ids is None or (with_logprobs and len(response.logprobs) != len(token_ids)):
            return None
        shown = self.task.variant(problem, response.variant)
        reward, reason = self.task.verify(shown, response.text)
        if reward < 1.0:
            return None
        made = {"origin": site, "reason": reason, "problem": shown}
        sender = response.logprobs if with_logprobs else ()
        return Completion(token_ids, None, response.text, reward, **made, sender_logprobs=sender)


def rollout_metrics(groups: Sequence[Group], entropy: float, settings: GrpoSettings) -> dict[str, float]:
    """TRL's names. `reward` is the weighted sum of the rewards, and `rewards/NAME` one of several alone; `reward_std`
    is the mean over groups; `live_groups` counts those in which the verifier's word differs. Completions without a
    reward, as those that could not be verified, do not count. Means over nothing, as of a Poisson sample without a
    problem, are 0."""
    completions = [c for group in groups for c in group.completions]
    lengths = [len(c.token_ids) for c in completions]
    totals = [[total_reward(c, settings) for c in group.completions] for group in groups]
    rewards = [[total for total in some if total is not None] for some in totals]
    stds = [torch.tensor(some).std().item() if len(some) > 1 else 0.0 for some in rewards]
    spread = sum(len(set(some)) > 1 for some in rewards)
    live = sum(len({made.reward for made in group.completions if made.verified}) > 1 for group in groups)
    return {
        "reward": sum(map(sum, rewards)) / max(sum(map(len, rewards)), 1),
        "reward_std": sum(stds) / max(len(stds), 1),
        "frac_reward_zero_std": 1 - spread / max(len(groups), 1),
        "live_groups": float(live),
        "groups": float(len(groups)),
        "completions": float(len(completions)),
        "verifier/timeouts": float(sum(not c.verified for c in completions)),
        "completions/mean_length": sum(lengths) / max(len(lengths), 1),
        "completions/clipped_ratio": sum(c.truncated for c in completions) / max(len(completions), 1),
        "completions/unanswered_ratio": sum(c.reason in UNANSWERED for c in completions) / max(len(completions), 1),
        "num_tokens": float(sum(lengths)),
        "entropy": entropy,
        **_each_reward(completions, settings),
    }


def _each_reward(completions: Sequence[Completion], settings: GrpoSettings) -> dict[str, float]:
    """The mean of each reward, unweighted. The verifier's alone is `reward`."""
    if settings.reward_weights.keys() == {"accuracy"}:
        return {}
    values = {name: [REWARDS[name].of(c, settings) for c in completions] for name in settings.reward_weights}
    said = {name: [value for value in some if value is not None] for name, some in values.items()}
    return {f"rewards/{name}": sum(some) / max(len(some), 1) for name, some in said.items()}
