"""`fedrlvr chat`: talk to a model on the terminal, with or without an adapter.

What comes through a pipe is one question; the answer is all that goes to standard output. With a preset each question
is a problem of its own, asked as in training: a model wants the prompt that it was trained with. Without one, questions
and answers are the turns of a conversation, where the model has a chat template.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from fedrlvr.commands.quiet import quiet
from fedrlvr.commands.shared import DEVICES, DTYPES, add_job, check_job
from fedrlvr.config import PromptSettings, Settings
from fedrlvr.launch.experiment import load_experiment
from fedrlvr.peft_folder import check_peft_folder
from fedrlvr.printable import print_error, printable
from fedrlvr.report.screen import Screen
from fedrlvr.settings_file import SettingsError, validate_settings
from fedrlvr.site.fingerprint import other_base
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import Task, task_named
from fedrlvr.types import Message, Problem, Prompt

Answer = Callable[[Prompt, bool], str]  # of a prompt, with the adapter or without; shown as it is written


class Sampling(Settings):
    """How answers are sampled."""

    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    max_tokens: int = Field(ge=1)
    seed: int | None = Field(ge=0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a Hugging Face directory")
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="a PEFT directory, such as a run's adapter/")
    parser.add_argument("--beside-base", action="store_true", help="also show what the model says without the adapter")
    add_job(parser, "ask as in its training: system prompt, examples, instruction; each question is a problem alone")
    parser.add_argument("--temperature", type=float, help="0: the likeliest token; default: the preset's, or 1")
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="only the likeliest tokens of this probability together"
    )
    parser.add_argument(
        "--max-tokens", type=int, help="of an answer; default: the preset's, or 512; less where the model reads less"
    )
    parser.add_argument("--seed", type=int, help="the same question gets the same answer (default: others each time)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", choices=DEVICES, default="auto")


def run(arguments: argparse.Namespace) -> int:
    check_job(arguments)
    task, prompt, sampling = _job_part(arguments)
    if arguments.beside_base and not arguments.adapter:
        raise SettingsError("--beside-base: compares an adapter with its base model; give --adapter")
    settings = LocalModel(model_path=arguments.model, device=arguments.device, dtype=arguments.dtype)
    settings.check_model("--model")
    if arguments.adapter:
        check_peft_folder(arguments.adapter)
        if warning := other_base(arguments.adapter, arguments.model):
            print(printable(f"warning: {warning}"), file=sys.stderr)
    piped = None if sys.stdin.isatty() else _piped()
    answer = _loaded(settings, arguments.adapter, prompt, sampling)
    sides = (False, True) if arguments.beside_base else (True,)
    if piped is not None:
        Talk(task, answer, sides).ask(piped)
        return 0
    return _converse(Talk(task, answer, sides))


def _job_part(arguments: argparse.Namespace) -> tuple[Task | None, PromptSettings, Sampling]:
    """The task that makes prompts, if there is a preset, and how answers are sampled."""
    task, prompt, usual = None, PromptSettings(), {"temperature": 1.0, "max_tokens": 512}
    if arguments.config is not None:
        preset = load_experiment(arguments.config, arguments.set, arguments.tiny)
        task, prompt = task_named(preset.task, preset.verifier, preset.prompt), preset.prompt
        usual = {"temperature": preset.grpo.temperature, "max_tokens": preset.grpo.max_completion_length}
    given = {name: getattr(arguments, name) for name in usual if getattr(arguments, name) is not None}
    rest = {"top_p": arguments.top_p, "seed": arguments.seed}
    return task, prompt, validate_settings(Sampling, usual | given | rest, "chat")


def _piped() -> str:
    """All of standard input. Raises SettingsError where there is nothing to answer."""
    try:
        text = sys.stdin.read().strip()
        text.encode()
    except UnicodeError:
        raise SettingsError("standard input is not UTF-8 text") from None
    if not text:
        raise SettingsError("standard input is empty; expected a question")
    return text


def _loaded(settings: LocalModel, adapter: Path | None, prompt: PromptSettings, sampling: Sampling) -> Answer:
    quiet()
    from fedrlvr.learning.build import choose_device  # loads torch
    from fedrlvr.learning.chat import Chat
    from fedrlvr.learning.model import load_trained

    with Screen(stderr=True).status("loading the model"):
        chat = Chat(load_trained(settings, adapter, prompt, choose_device(settings)), **sampling.model_dump())
    return lambda asked, with_adapter: chat.answer(asked, _tell, with_adapter)


def _tell(text: str) -> None:
    """A model may write anything: nothing of it steers the terminal."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


class Talk:
    """The turns so far, of each side of its own: the model with its adapter, and if wanted without."""

    def __init__(self, task: Task | None, answer: Answer, sides: tuple[bool, ...]):
        self.task, self.answer, self.sides = task, answer, sides
        self.forget()

    def forget(self) -> None:
        self.turns: dict[bool, tuple[Message, ...]] = dict.fromkeys(self.sides, ())

    def ask(self, text: str) -> None:
        """Each side's answer is shown as it is written, and becomes a turn. Raises ValueError as `Chat.answer`."""
        for side in self.sides:
            if len(self.sides) > 1:
                _tell("with the adapter:\n" if side else "base model:\n")
            turns = (*self.turns[side], Message("user", text))
            said = self.answer(self.task.prompt(Problem("chat", text, "")) if self.task else turns, side)
            _tell("\n")
            if self.task is None:
                self.turns[side] = (*turns, Message("assistant", said))


def _converse(talk: Talk) -> int:
    """Until the end of input (Ctrl-D) or an interruption (Ctrl-C) in place of a question. One in an answer ends that
    answer, which is then no turn."""
    with suppress(ImportError):
        import readline  # noqa: F401  (lines can be edited)
    print("Ctrl-C ends an answer, Ctrl-D the chat" + ("; each question is asked alone" if talk.task else ""))
    while True:
        try:
            text = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        try:
            if text:
                talk.ask(text)
        except KeyboardInterrupt:
            _tell("\n")
        except ValueError as error:
            print_error(error)
            if any(talk.turns.values()):
                print_error("the conversation begins anew")
            talk.forget()
