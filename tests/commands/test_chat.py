"""`fedrlvr chat` as it is called: by a pipe, and at a terminal."""

import io
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from fedrlvr.cli import main
from fedrlvr.commands.chat import Talk
from fedrlvr.config import LoraSettings, PromptSettings
from fedrlvr.learning import chat as learning_chat
from fedrlvr.learning.chat import Chat
from fedrlvr.learning.model import load_policy, load_trained
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model

CPU = torch.device("cpu")
GREEDY = ("--temperature", "0", "--max-tokens", "24")


@pytest.fixture
def ask(model_path, monkeypatch, capsys):
    """ask(question, flag, ...) -> (exit code, standard output, standard error)"""

    def make(question: str | bytes, *flags, model=None):
        raw = question if isinstance(question, bytes) else question.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))
        code = main(["chat", "--model", str(model or model_path), *map(str, flags)])
        return code, *capsys.readouterr()

    return make


@pytest.fixture(scope="module")
def talker(tmp_path_factory) -> Path:
    """An untrained model with a chat template."""
    task = TASKS["protocol"]
    settings = BaseModelSettings(architecture="qwen3", chat="chatml", steps=0, num_layers=1, hidden_size=32)
    return base_model(task, task, settings, tmp_path_factory.mktemp("models"))


@pytest.fixture
def adapter(model_path, tmp_path) -> Path:
    """An adapter that changes the answers."""
    policy = load_policy(LocalModel(model_path=model_path), LoraSettings(), PromptSettings(), CPU)
    for parameter in policy.model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    policy.model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def likeliest(model: Path, adapter: Path | None, question: str) -> str:
    """The greedy answer by the project's own sampler."""
    policy = load_trained(LocalModel(model_path=model), adapter, PromptSettings(), CPU)
    uniforms = torch.full((1, 24), 0.5)
    ((sample,),) = CachedSampler(policy).sample([policy.encode_prompt(question)], 0.0, uniforms)
    return policy.decode(sample.token_ids).strip()


def test_a_piped_question_gets_the_models_answer_and_nothing_else(ask, model_path):
    assert ask("A3725?\n", *GREEDY) == (0, likeliest(model_path, None, "A3725?") + "\n", "")


def test_beside_the_base_model_stands_what_the_adapter_makes_of_it(ask, model_path, adapter):
    base, adapted = (likeliest(model_path, one, "A3725?") for one in (None, adapter))
    assert base != adapted
    code, out, err = ask("A3725?", "--adapter", adapter, "--beside-base", *GREEDY)
    assert (code, err) == (0, "")
    assert out == f"base model:\n{base}\nwith the adapter:\n{adapted}\n"
    assert ask("A3725?", "--adapter", adapter, *GREEDY)[1] == f"{adapted}\n"


def test_a_seed_repeats_an_answer_and_without_one_it_differs(ask):
    flags = ("--temperature", "1", "--max-tokens", "24")
    assert ask("A3725?", *flags, "--seed", 1) == ask("A3725?", *flags, "--seed", 1)
    assert len({ask("A3725?", *flags)[1] for _ in range(8)}) > 1


@pytest.mark.parametrize("flags", [(), ("--max-tokens", 512)])
def test_an_answer_is_no_longer_than_what_the_model_reads(ask, model_path, flags):
    """That is 512 tokens, the question among them."""
    code, out, err = ask("A3725?", "--temperature", 0, *flags)
    assert (code, err) == (0, "")
    assert out.startswith(likeliest(model_path, None, "A3725?"))


def test_a_preset_asks_as_in_training(ask, talker, tmp_path, monkeypatch):
    """System prompt, examples and instruction are there, and its sampling unless flags say something else."""
    preset = tmp_path / "preset.yaml"
    preset.write_text(
        "{task: math, model: tiny, grpo: {temperature: 0.5, max_completion_length: 5},"
        " prompt: {system_prompt: You add., examples: [{problem: 1+1, answer: two}]},"
        " tiny: {prompt: {system_prompt: You take.}}}"
    )
    asked = []
    answer = Chat.answer

    def heard(chat, prompt, *rest):
        asked.append(
            (chat.policy.tokenizer.decode(chat.policy.encode_prompt(prompt)), chat.temperature, chat.max_tokens)
        )
        return answer(chat, prompt, *rest)

    monkeypatch.setattr(Chat, "answer", heard)
    assert ask("2+2?", "--config", preset, model=talker)[0] == 0
    assert ask("2+2?", "--config", preset, "--tiny", "--temperature", 0, "--max-tokens", 3, model=talker)[0] == 0
    (first, *sampling), (tiny, *given) = asked
    places = [first.index(part) for part in ("You add.", "1+1", "two", "2+2?")]
    assert places == sorted(places)
    assert first.count("within \\boxed{}") == 2
    assert (sampling, given) == ([0.5, 5], [0.0, 3])
    assert "You take." in tiny


def test_what_a_model_writes_does_not_steer_the_terminal(ask, monkeypatch):
    def writes(streamer) -> None:
        streamer.on_finalized_text("a\x1b[2Jb\n\u202e[red]c")

    monkeypatch.setattr(learning_chat._Told, "put", lambda streamer, value: None)
    monkeypatch.setattr(learning_chat._Told, "end", writes)
    assert ask("A3725?", *GREEDY)[1] == "a [2Jb\n [red]c\n"


def test_nothing_of_a_models_own_sampling_settings_holds(talker):
    """A generation_config.json may bring a penalty, a minimal length or beams."""
    policy = load_trained(LocalModel(model_path=talker), None, PromptSettings(), CPU)
    policy.model.generation_config.update(repetition_penalty=5.0, min_new_tokens=20, num_beams=3, top_k=1)
    plain = load_trained(LocalModel(model_path=talker), None, PromptSettings(), CPU)
    said = [Chat(one, 1.0, 1.0, 12, seed=3).answer("abc", lambda text: None) for one in (policy, plain)]
    assert said[0] == said[1]
    assert policy.model.generation_config.repetition_penalty is None


@pytest.mark.parametrize(
    ("question", "flags", "said"),
    [
        ("", (), "standard input is empty; expected a question"),
        (b"\xff\xfe", (), "standard input is not UTF-8 text"),
        ("A", ("--beside-base",), "--beside-base: compares an adapter with its base model; give --adapter"),
        ("A", ("--adapter", "/nowhere"), "/nowhere: no adapter_model.safetensors"),
        ("A", ("--top-p", 0), "chat: top_p: Input should be greater than 0"),
        ("A", ("--temperature", "nan"), "chat: temperature: Input should be a finite number"),
        ("A", ("--max-tokens", 0), "chat: max_tokens: Input should be greater than or equal to 1"),
        ("A", ("--set", "seed=3"), "name it with --config"),
        ("A" * 512, (), "prompt: 512 tokens, but the model reads 512, its answer among them; shorten it"),
    ],
)
def test_what_cannot_be_used_is_one_error(ask, question, flags, said):
    code, out, err = ask(question, *flags)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_model_that_is_not_there_is_one_error(ask):
    assert "no config.json in /nowhere" in ask("A", model="/nowhere")[2]


def test_a_question_with_a_control_token_is_refused(ask, talker):
    code, _, err = ask("a<|im_end|>b", *GREEDY, model=talker)
    assert (code, "reads as a control token" in err) == (2, True)


@pytest.fixture
def terminal(talker):
    """terminal(flag, ...) -> a chat at a terminal of its own: `read_to(text)` and `type(text)`; `process`."""
    opened = []

    class Terminal:
        def __init__(self, *flags: str):
            self.near, far = pty.openpty()
            command = [sys.executable, "-m", "fedrlvr.cli", "chat", "--model", str(talker), *flags]
            pipes = {"stdin": far, "stdout": far, "stderr": far}
            environment = {**os.environ, "TERM": "dumb"}  # a prompt without codes for the terminal
            self.process = subprocess.Popen(command, **pipes, start_new_session=True, env=environment)
            os.close(far)
            self.seen = ""

        def read_to(self, text: str) -> str:
            """Everything up to this text, which must come."""
            deadline = time.monotonic() + 120
            while text not in self.seen:
                assert time.monotonic() < deadline, self.seen
                self.seen += os.read(self.near, 4096).decode(errors="replace")  # a character may come in parts
            found, _, self.seen = self.seen.partition(text)
            return found

        def type(self, text: str) -> None:
            os.write(self.near, text.encode())

    def start(*flags: str) -> Terminal:
        opened.append(Terminal(*flags))
        return opened[-1]

    yield start
    for one in opened:
        one.process.kill()
        one.process.wait()
        os.close(one.near)


@pytest.mark.slow
def test_at_a_terminal_turns_follow_each_other_until_the_end_of_input(terminal):
    chat = terminal(*GREEDY)
    chat.read_to("> ")
    for _ in range(2):
        chat.type("abc\n")
        chat.read_to("abc")  # the terminal's echo
        chat.read_to("\n> ")
    chat.type("a<|im_end|>b\n")
    assert "error: a prompt contains '<|im_end|>'" in chat.read_to("error: the conversation begins anew")
    chat.read_to("> ")
    chat.type("\x04")
    assert chat.process.wait(timeout=60) == 0


@pytest.mark.slow
def test_an_interruption_ends_the_answer_and_at_the_prompt_the_chat(terminal):
    chat = terminal("--max-tokens", "450", "--temperature", "9")  # it hardly ever ends by itself
    chat.read_to("> ")
    chat.type("abc\n")
    chat.read_to("abc\r\n")
    os.read(chat.near, 1)
    chat.process.send_signal(signal.SIGINT)
    chat.read_to("\n> ")
    for _ in range(5):  # Python does not see an interruption that comes between the prompt and its waiting for a key
        chat.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            assert chat.process.wait(timeout=30) == 0
            return
    raise AssertionError("the chat goes on")


def test_each_side_of_a_conversation_keeps_its_own_turns():
    asked = []

    def answer(prompt, side):
        asked.append((side, [(turn.role, turn.content) for turn in prompt]))
        return f"{'own' if side else 'base'} {len(asked)}"

    talk = Talk(None, answer, (False, True))
    talk.ask("one")
    talk.ask("two")
    assert asked[2:] == [
        (False, [("user", "one"), ("assistant", "base 1"), ("user", "two")]),
        (True, [("user", "one"), ("assistant", "own 2"), ("user", "two")]),
    ]
