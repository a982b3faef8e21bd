"""A base model with a chat template: its own configuration knows only the end of a text, and its answers end where the
template closes a turn. So do sampling, evaluation and what comes from other sites."""

import json

import pytest
import torch

from fedrlvr.config import LoraSettings, PromptSettings
from fedrlvr.learning.model import load_policy, load_trained
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.protocol.records import PublicResponse
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model
from fedrlvr.types import Problem

TASK = TASKS["arithmetic"]
PROBLEM = Problem("one", "2 + 2?", "4")
SMALL = BaseModelSettings(
    chat="phi", vocabulary=300, hidden_size=32, num_layers=1, intermediate_size=32, num_heads=2, head_dim=16, steps=0
)


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """As training and as evaluation load it."""
    path = base_model(TASK, TASK, SMALL, tmp_path_factory.mktemp("models"))
    for name in ("config.json", "generation_config.json"):
        values = json.loads((path / name).read_text())
        (path / name).write_text(json.dumps(values | {"eos_token_id": 1}))
    model, prompt, cpu = LocalModel(model_path=path), PromptSettings(), torch.device("cpu")
    return load_policy(model, LoraSettings(), prompt, cpu), load_trained(model, None, prompt, cpu)


def test_training_and_evaluation_end_answers_at_the_same_tokens(policies):
    for policy in policies:
        assert policy.tokenizer.convert_ids_to_tokens(policy.eos_ids) == ["<|end|>", "<|endoftext|>"]


def test_sampling_does_not_go_past_the_end_of_a_turn_and_others_answers_end_there(policies):
    policy = policies[0]
    rollouts = Rollouts(policy, CachedSampler(policy), TASK, Ranks(), 80, 1.0)
    groups, _ = rollouts.groups([PROBLEM], 64, seed=0)
    ended = [made.token_ids for made in groups[0].completions if not made.truncated]
    assert policy.eos_ids[0] in {ids[-1] for ids in ended}
    assert not any(end in made.token_ids[:-1] for made in groups[0].completions for end in policy.eos_ids)
    text = "2+2=4. So \\boxed{4}"
    received = rollouts.received(PROBLEM, "site-2", PublicResponse("one", text))
    assert received.token_ids == (*policy.encode(text), policy.eos_ids[0])
    assert policy.tokenizer.decode(received.token_ids) == text + "<|end|>"
