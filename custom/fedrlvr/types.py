"""The nouns of the project. Small, frozen, and free of any framework, so that every room may speak them.

Shapes are named by axis suffixes throughout the package: B = prompts, N = completions (rows), G = completions per
prompt, T = completion tokens, P = prompt tokens, V = vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Adapter = dict  # PEFT state-dict name -> torch.Tensor, always in the names' sorted order


@dataclass(frozen=True)
class Problem:
    """One question with a checkable answer. `label` is what results are broken down by (a type, a subject)."""

    id: str
    prompt: str
    answer: str
    label: str = ""


@dataclass(frozen=True)
class Completion:
    """One answer to a problem.

    `logprobs` are the log-probabilities under the policy that is taken as "old" in the loss, one per token: those of
    sampling for own completions, those of the receiver at the start of the step for swapped ones (None until known).
    `truncated` means the length limit came before the end-of-sequence token. `origin` names the sending site, "" = own.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    text: str
    reward: float
    truncated: bool = False
    origin: str = ""

    @property
    def correct(self) -> bool:
        return self.reward >= 1.0


@dataclass(frozen=True)
class Group:
    """The completions of one prompt.

    `baseline_rewards` are the rewards the advantage baseline is taken over where that is not the group itself
    (replace-all: the receiver's own sampled rewards); None means the group's own.
    """

    problem: Problem
    completions: tuple[Completion, ...]
    baseline_rewards: tuple[float, ...] | None = None

    @property
    def rewards(self) -> tuple[float, ...]:
        return tuple(c.reward for c in self.completions)

    @property
    def num_correct(self) -> int:
        return sum(c.correct for c in self.completions)

    def with_completions(self, completions) -> Group:
        return replace(self, completions=tuple(completions))


@dataclass(frozen=True)
class PublicResponse:
    """A verified-correct answer to a public problem: all that a site says of it to others."""

    problem_id: str
    text: str
    site: str = ""


@dataclass(frozen=True)
class SiteUpdate:
    """What a site submits at a round's end: its adapter's difference to the round's start. `weight` is the server's."""

    site: str
    delta: Adapter
    weight: float = 1.0
