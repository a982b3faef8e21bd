"""Byte-level tokenizers with chat formats: any text comes back, and control tokens never come out of text."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from fedrlvr.config import PromptSettings
from fedrlvr.data.tokenizer import prompt_ids
from fedrlvr.tiny.base_model import Chat
from fedrlvr.tiny.small_tokenizers import CHAT_STYLES, character_tokenizer, chat_tokenizer

TEXTS = [
    "how many figs has ana? " * 3,
    "ana has 3 figs and gets 12 more. ben puts walnuts into paper bags, seven in each.",
    "whoever counts pens before breakfast, counts them again afterwards: nothing vanished overnight.",
]
TOKENIZERS = {style: chat_tokenizer(TEXTS, style, 300) for style in CHAT_STYLES}


def encode(tokenizer, text: str) -> list[int]:
    """As untrusted text is encoded."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids


def test_a_preset_can_name_every_style():
    assert set(get_args(Chat)) == set(CHAT_STYLES)


@pytest.mark.parametrize("style", CHAT_STYLES)
@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=30))
def test_any_text_round_trips(style, text):
    tokenizer = TOKENIZERS[style]
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert not set(ids) & set(tokenizer.all_special_ids)


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_control_tokens_name_in_untrusted_text_is_not_that_token(style):
    tokenizer, chat = TOKENIZERS[style], CHAT_STYLES[style]
    for token in filter(None, [chat.bos, chat.eos, chat.end_turn, *chat.control]):
        ids = encode(tokenizer, token)
        assert len(ids) > 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == token
        assert tokenizer(token, add_special_tokens=False).input_ids == [tokenizer.convert_tokens_to_ids(token)]


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_what_is_learnt_makes_familiar_text_shorter_within_the_vocabulary(style):
    small, large = TOKENIZERS[style], chat_tokenizer(TEXTS, style, 320)
    assert (len(small), len(large)) == (300, 320)
    assert len(encode(large, TEXTS[0])) < len(encode(small, TEXTS[0])) < len(TEXTS[0])


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_what_is_saved_is_loaded_with_its_format_and_padding(style, tmp_path):
    tokenizer = TOKENIZERS[style]
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    plain = PromptSettings(chat_template="never")
    for text in TEXTS:
        assert prompt_ids(loaded, text, PromptSettings()) == prompt_ids(tokenizer, text, PromptSettings())
        assert prompt_ids(loaded, text, plain) == prompt_ids(tokenizer, text, plain)
    assert (loaded.pad_token, loaded.eos_token, loaded.padding_side) == ("<pad>", CHAT_STYLES[style].eos, "left")


def test_two_tokenizers_of_one_text_are_equal():
    one, other = (chat_tokenizer(list(TEXTS), "chatml", 320) for _ in range(2))
    assert one.get_vocab() == other.get_vocab()


def test_a_character_named_twice_is_one_token():
    tokenizer = character_tokenizer("abab")
    assert len(tokenizer) == 3 + 2
    assert encode(tokenizer, "abba") == [3, 4, 4, 3]
