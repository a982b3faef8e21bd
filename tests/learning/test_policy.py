"""A policy's tokens of a prompt, which are needed often."""

import torch

from fedrlvr.config import PromptSettings
from fedrlvr.data.tokenizer import prompt_ids
from fedrlvr.learning.model import load_trained
from fedrlvr.site_config import LocalModel


def test_a_prompts_tokens_are_worked_out_once(model_path, monkeypatch):
    asked = []

    def counted(tokenizer, prompt, settings):
        asked.append(prompt)
        return prompt_ids(tokenizer, prompt, settings)

    monkeypatch.setattr("fedrlvr.learning.model.prompt_ids", counted)
    policy = load_trained(LocalModel(model_path=model_path), None, PromptSettings(), torch.device("cpu"))
    first = [policy.encode_prompt(text) for text in ("A3725?", "B3725?", "A3725?")]
    assert asked == ["A3725?", "B3725?"]
    assert first[0] == first[2] == policy.encode("A3725?")
    assert first[1] == policy.encode("B3725?")
