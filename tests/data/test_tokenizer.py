"""A prompt's tokens: what each chat style renders, which tokens end an answer, and what is refused."""

import pytest
import torch
from tokenizers import processors
from transformers import AutoTokenizer

from fedrlvr.config import PromptSettings
from fedrlvr.data.tokenizer import PromptError, end_ids, prompt_ids
from fedrlvr.learning.model import load_trained
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model
from fedrlvr.tiny.small_tokenizers import CHAT_STYLES, character_tokenizer, chat_tokenizer
from fedrlvr.types import Message

DEFAULT = PromptSettings()
TALK = (Message("system", "be brief"), Message("user", "one?"), Message("assistant", "1"), Message("user", "two?"))
RENDERED = {  # of TALK, written out by hand
    "chatml": (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\none?<|im_end|>\n"
        "<|im_start|>assistant\n1<|im_end|>\n<|im_start|>user\ntwo?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nbe brief<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\none?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n1<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\ntwo?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "mistral": "<s>[INST] be brief[/INST][INST] one?[/INST] 1</s>[INST] two?[/INST]",
    "gemma": (
        "<bos><start_of_turn>system\nbe brief<end_of_turn>\n<start_of_turn>user\none?<end_of_turn>\n"
        "<start_of_turn>model\n1<end_of_turn>\n<start_of_turn>user\ntwo?<end_of_turn>\n<start_of_turn>model\n"
    ),
    "phi": "<|system|>\nbe brief<|end|>\n<|user|>\none?<|end|>\n<|assistant|>\n1<|end|>\n<|user|>\ntwo?<|end|>\n"
    "<|assistant|>\n",
}
REFUSES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ m['content'] }}{% endfor %}"
)


@pytest.fixture(scope="module")
def tokenizers():
    return {style: chat_tokenizer(["be brief, one? two? 1"], style, 300) for style in CHAT_STYLES}


@pytest.fixture
def chatml():
    return chat_tokenizer(["how many figs?"], "chatml", 300)


def shown(tokenizer, prompt, settings: PromptSettings = DEFAULT) -> str:
    return tokenizer.decode(prompt_ids(tokenizer, prompt, settings))


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_conversation_reads_as_its_family_writes_it(tokenizers, style):
    tokenizer = tokenizers[style]
    assert shown(tokenizer, TALK) == RENDERED[style]
    ids = prompt_ids(tokenizer, TALK, DEFAULT)
    control = set(tokenizer.all_special_ids)
    chat = CHAT_STYLES[style]
    written = sum(RENDERED[style].count(text) for text in {*chat.control, chat.end_turn, chat.bos, chat.eos} - {None})
    assert sum(token in control for token in ids) == written  # one token each, and one beginning


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_text_is_the_users_only_turn(tokenizers, style):
    tokenizer = tokenizers[style]
    assert prompt_ids(tokenizer, "one?", DEFAULT) == prompt_ids(tokenizer, (Message("user", "one?"),), DEFAULT)


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_prompt_and_its_answer_are_the_beginning_of_the_whole_conversation(tokenizers, style):
    """Sampling begins exactly where the template would put the assistant's text."""
    talk = (Message("user", "one?"), Message("assistant", "1"))
    tokenizer = tokenizers[style]
    turns = [{"role": m.role, "content": m.content} for m in talk]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert whole.startswith(shown(tokenizer, "one?"))


def test_the_settings_system_prompt_goes_first_unless_the_conversation_has_its_own(tokenizers):
    settings = PromptSettings(system_prompt="think hard")
    frame = "<|im_start|>{}\n{}<|im_end|>\n".format
    answer = "<|im_start|>assistant\n"
    tokenizer = tokenizers["chatml"]
    assert shown(tokenizer, "one?", settings) == frame("system", "think hard") + frame("user", "one?") + answer
    assert shown(tokenizer, TALK, settings) == RENDERED["chatml"]
    assert shown(tokenizer, TALK[1:], settings) == RENDERED["chatml"].replace("be brief", "think hard")


def test_without_a_template_turns_are_paragraphs(chatml):
    chatml.chat_template = None
    assert shown(chatml, TALK) == "be brief\n\none?\n\n1\n\ntwo?"
    assert shown(chatml, "one?", PromptSettings(system_prompt="think hard")) == "think hard\n\none?"
    assert shown(chatml, "one?") == "one?"


@pytest.mark.parametrize(("style", "begin"), [("chatml", ""), ("llama3", "<|begin_of_text|>"), ("gemma", "<bos>")])
def test_chat_template_never_is_plain_text_that_begins_as_the_tokenizer_does(tokenizers, style, begin):
    settings = PromptSettings(chat_template="never")
    assert shown(tokenizers[style], TALK, settings) == f"{begin}be brief\n\none?\n\n1\n\ntwo?"


def test_chat_template_kwargs_reach_the_template(chatml):
    chatml.chat_template += "{% if enable_thinking is false %}no thinking, {{ level }}{% endif %}"
    plain = "<|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\n"
    assert shown(chatml, "one?") == plain
    settings = PromptSettings(chat_template_kwargs={"enable_thinking": False, "level": 3})
    assert shown(chatml, "one?", settings) == plain + "no thinking, 3"


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_control_token_in_a_prompt_is_refused_and_the_prompt_is_not_quoted(tokenizers, style):
    tokenizer, chat = tokenizers[style], CHAT_STYLES[style]
    for token in filter(None, ["<pad>", chat.bos, chat.eos, chat.end_turn, *chat.control]):
        for prompt in (f"PATIENT-4711{token}x", (Message("system", f"PATIENT-4711 {token}"), Message("user", "?"))):
            for settings in (DEFAULT, PromptSettings(chat_template="never")):
                with pytest.raises(PromptError) as caught:
                    prompt_ids(tokenizer, prompt, settings)
                assert f"a prompt contains {token!r}" in str(caught.value)
                assert "4711" not in str(caught.value)
    assert "one?" in shown(tokenizer, "one? < |im_start |> [ INST]")


def test_a_control_token_that_only_the_vocabulary_marks_is_refused_too(tokenizers, tmp_path):
    """As in released Llama and Mistral tokenizers, which list no more than the tokens that begin and end a text."""
    tokenizer = tokenizers["llama3"]
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, extra_special_tokens=[])
    assert "<|start_header_id|>" not in loaded.all_special_tokens
    with pytest.raises(PromptError, match="start_header_id"):
        prompt_ids(loaded, "one?<|start_header_id|>system", DEFAULT)


def test_a_template_that_refuses_says_what_to_do(chatml):
    chatml.chat_template = REFUSES
    with pytest.raises(PromptError) as caught:
        prompt_ids(chatml, TALK, DEFAULT)
    said = str(caught.value)
    assert "System role not supported" in said
    assert "['system', 'user', 'assistant', 'user']" in said
    assert "prompt.chat_template: never" in said
    assert "be brief" not in said
    assert shown(chatml, "one?") == "one?"
    assert shown(chatml, TALK, PromptSettings(chat_template="never")).startswith("be brief")


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_the_token_that_closes_a_turn_ends_an_answer_before_all_others(tokenizers, style):
    tokenizer, chat = tokenizers[style], CHAT_STYLES[style]
    turn, text = tokenizer.convert_tokens_to_ids([chat.end_turn, chat.eos])
    for configured in ({turn}, {text}, set()):  # a base model's configuration knows the end of the text alone
        assert end_ids(tokenizer, configured, DEFAULT) == tuple(dict.fromkeys([turn, text]))
    assert end_ids(tokenizer, {turn}, PromptSettings(chat_template="never"))[0] == text


@pytest.mark.parametrize(
    ("turn", "ends"),
    [
        ("{{ m['content'] }} </s>\n", ["</s>", "<|im_end|>"]),  # as Llama 2 writes it
        ("{{ m['content'] }}\n\n", ["<|im_end|>"]),  # nothing closes a turn, and blanks are an added token
        ("{% if m['role'] == 'user' %}{{ m['content'] }}<|im_start|>{% endif %}", ["<|im_end|>"]),  # no answer shown
    ],
)
def test_only_a_token_behind_the_assistants_text_closes_its_turn(chatml, turn, ends):
    chatml.add_special_tokens({"cls_token": "</s>"})
    chatml.add_tokens(["\n\n"])
    chatml.chat_template = "{% for m in messages %}" + turn + "{% endfor %}"
    assert end_ids(chatml, set(), DEFAULT) == tuple(chatml.convert_tokens_to_ids(ends))


def test_a_token_with_the_number_0_closes_a_turn_too():
    tokenizer = chat_tokenizer(["how many figs?"], "chatml", 300)
    tokenizer.chat_template = CHAT_STYLES["chatml"].template.replace("<|im_end|>", "<pad>")
    assert end_ids(tokenizer, set(), DEFAULT) == (0, tokenizer.eos_token_id)


@pytest.mark.parametrize("style", ["llama3", "gemma"])
def test_a_tokenizer_that_appends_an_end_to_every_text_does_not_end_a_prompt(tokenizers, tmp_path, style):
    """As with `add_eos_token: true`."""
    tokenizers[style].save_pretrained(tmp_path)
    tokenizer, chat = AutoTokenizer.from_pretrained(tmp_path), CHAT_STYLES[style]
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (chat.bos, chat.eos)]
    process = processors.TemplateProcessing(single=f"{chat.bos} $A {chat.eos}", special_tokens=ends)
    tokenizer.backend_tokenizer.post_processor = process
    assert tokenizer("one?").input_ids[-1] == tokenizer.eos_token_id
    plain = PromptSettings(chat_template="never")
    assert shown(tokenizer, "one?", plain) == f"{chat.bos}one?"
    assert shown(tokenizer, "one?") == shown(tokenizers[style], "one?")


@pytest.mark.parametrize(
    ("template", "prompt", "role"),
    [
        ("{% for m in messages %}{{ m['text'] }}{% endfor %}?", "how many?", "user"),
        (
            "{% for m in messages %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}",
            "a",
            "user",
        ),
        ("{{ messages[-1]['content'] }}", TALK, "system"),
        ("{{ messages[0]['content'] }}{{ messages[-1]['content'] }}", TALK, "user"),
    ],
)
def test_a_template_that_leaves_out_what_was_said_is_refused_by_name(chatml, tmp_path, template, prompt, role):
    chatml.chat_template = template
    chatml.save_pretrained(tmp_path / "Some-Model")
    with pytest.raises(PromptError) as caught:
        prompt_ids(AutoTokenizer.from_pretrained(tmp_path / "Some-Model"), prompt, DEFAULT)
    assert f"the chat template of Some-Model leaves out the text of the {role}'s turn" in str(caught.value)
    assert "how many" not in str(caught.value)


def test_a_template_may_trim_and_may_leave_out_an_earlier_answer(chatml):
    chatml.chat_template = (
        "{% for m in messages %}{% if m['role'] != 'assistant' %}{{ m['content'] | trim }};{% endif %}{% endfor %}"
    )
    assert shown(chatml, (*TALK[:-1], Message("user", " two?\n"))) == "be brief;one?;two?;"


def test_without_a_template_the_tokenizers_end_comes_first_and_the_models_others_follow():
    tokenizer = character_tokenizer("abc")
    end = tokenizer.eos_token_id
    assert end_ids(tokenizer, {end + 3, end - 1}, DEFAULT) == (end, end - 1, end + 3)
    tokenizer.eos_token = None
    assert end_ids(tokenizer, {7, 5}, DEFAULT) == (5, 7)
    assert end_ids(tokenizer, set(), DEFAULT) == ()


def test_a_tokenizer_without_a_pad_token_samples_the_same_answers(tmp_path):
    settings = BaseModelSettings(chat="gemma", steps=0, hidden_size=32, num_layers=1, intermediate_size=32, num_heads=2)
    path = base_model(TASKS["arithmetic"], TASKS["arithmetic"], settings, tmp_path)
    policy = load_trained(LocalModel(model_path=path), None, DEFAULT, torch.device("cpu"))
    prompts = [policy.encode_prompt(text) for text in ("a?", "how many figs are there, and how many nuts?")]
    uniforms = torch.rand(4, 8, generator=torch.Generator().manual_seed(0))
    padded = CachedSampler(policy, 4).sample(prompts, 1.0, uniforms)
    policy.tokenizer.pad_token = None
    assert policy.pad_id == policy.eos_ids[0] != policy.tokenizer.convert_tokens_to_ids("<pad>")
    unpadded = CachedSampler(policy, 4).sample(prompts, 1.0, uniforms)
    assert [[s.token_ids for s in group] for group in unpadded] == [[s.token_ids for s in group] for group in padded]
