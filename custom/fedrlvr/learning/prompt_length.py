"""Which problems a model can take: their prompts must leave room for an answer.

What is too long is not trained on. Where it is measured, it counts as not solved, so that every site measures all
problems that were agreed on. Sites with the same model find the same problems too long.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from transformers import AutoConfig

from fedrlvr.config import GrpoSettings
from fedrlvr.data.tokenizer import PromptError, brief
from fedrlvr.learning.model import Policy, positions_of
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.learning.trainer import SiteProblems
from fedrlvr.tasks import Task
from fedrlvr.types import Problem

LOGGER = logging.getLogger(__name__)


def prompt_limit(positions: int | None, settings: GrpoSettings) -> int | None:
    """The most tokens that a prompt may have, None for no limit; a model has `positions` for prompt and completion
    together. Raises ValueError where completions leave no room for a prompt."""
    room = None if positions is None else positions - settings.max_completion_length
    if room is not None and room < 1:
        raise ValueError(
            f"grpo.max_completion_length is {settings.max_completion_length}, which leaves no room for a prompt in the "
            f"{positions} positions of the model; lower it"
        )
    return min((limit for limit in (room, settings.max_prompt_length) if limit is not None), default=None)


def limit_in(model_path: Path, settings: GrpoSettings) -> int | None:
    """`prompt_limit` of the model in this folder, from its configuration alone. Raises ValueError also as that cannot
    be read."""
    try:
        config = AutoConfig.from_pretrained(model_path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and its validators have their own exceptions
        raise ValueError(f"{model_path}: its config.json cannot be read: {brief(error)}") from None
    return prompt_limit(positions_of(config), settings)


def check_prompts(name: str, problems: Sequence[Problem], policy: Policy, task: Task) -> list[int]:
    """The lengths of the problems' prompts, in tokens. Raises ValueError for one that this model cannot read: now, not
    hours later. It has the problem's place in the set `name` and never its text, as errors reach the server."""
    lengths = []
    for number, problem in enumerate(problems, start=1):
        try:
            ids = policy.encode_prompt(task.prompt(problem))
        except PromptError as error:
            raise ValueError(f"{name}, problem {number}: {error}") from None
        if max(ids, default=0) >= policy.embeddings:
            raise ValueError(
                f"{name}, problem {number}: its prompt holds token number {max(ids)}, and the model has only "
                f"{policy.embeddings} embeddings; get the tokenizer and the chat template that belong to these weights"
            )
        lengths.append(len(ids))
    return lengths


def fitting(problems: SiteProblems, rollouts: Rollouts) -> tuple[SiteProblems, dict[str, int]]:
    """The site's problems without those private ones that are too long (public ones the trainer leaves out); and how
    many are too long in each set that has any. Raises ValueError as `check_prompts` and `count_too_long`."""
    sets: Mapping[str, Sequence[Problem]] = vars(problems) | {"public": list(problems.public.values())}
    too_long = {}
    for name, members in sets.items():
        lengths = check_prompts(f"{name}_problems", members, rollouts.policy, rollouts.task)
        if count := count_too_long(f"{name}_problems", lengths, rollouts.max_prompt_length):
            too_long[name] = count
            what = "are left out" if name in ("private", "public") else "count as not solved"
            LOGGER.warning("%s", in_words(name, lengths, rollouts.max_prompt_length, what))
    private = [problem for problem in problems.private if rollouts.fits(problem)]
    return replace(problems, private=private), too_long


def count_too_long(name: str, lengths: Sequence[int], limit: int | None) -> int:
    """How many prompts are longer than `limit`. Raises ValueError for a set in which all are."""
    count = 0 if limit is None else sum(length > limit for length in lengths)
    if lengths and count == len(lengths):
        raise ValueError(
            f"{name}: all {count} prompts are too long; the shortest has {min(lengths)} tokens, and {limit} are "
            "allowed by grpo.max_prompt_length, grpo.max_completion_length and the model's positions"
        )
    return count


def in_words(name: str, lengths: Sequence[int], limit: int | None, what: str) -> str:
    """What is said of a set with prompts that are too long, and what becomes of them."""
    count = count_too_long(name, lengths, limit)
    return f"{name}: {count} of {len(lengths)} problems have prompts of more than {limit} tokens and {what}"
