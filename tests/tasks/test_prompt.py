"""What a job says around every problem: its instruction and its worked examples."""

import pytest
from pydantic import ValidationError

from fedrlvr.config import JobConfig, PromptSettings
from fedrlvr.data.tokenizer import prompt_ids
from fedrlvr.run import run_identity
from fedrlvr.tasks import TASKS, task_named
from fedrlvr.tiny.small_tokenizers import chat_tokenizer
from fedrlvr.types import Message, Problem

ASKED = Problem("x", "What is 2+3?", "5")
EXAMPLES = PromptSettings(instruction="Box it.", examples=({"problem": "What is 1+1?", "answer": "\\boxed{2}"},))
TURNS = (
    Message("user", "What is 1+1?\n\nBox it."),
    Message("assistant", "\\boxed{2}"),
    Message("user", "What is 2+3?\n\nBox it."),
)


def test_examples_are_turns_that_look_like_the_problem():
    assert task_named("math", prompt=EXAMPLES).prompt(ASKED) == TURNS


def test_the_jobs_instruction_takes_the_place_of_the_tasks():
    assert task_named("math", prompt=PromptSettings(instruction="Box it.")).prompt(ASKED) == "What is 2+3?\n\nBox it."
    assert task_named("math", prompt=PromptSettings(instruction="")).prompt(ASKED) == "What is 2+3?"
    assert task_named("math", prompt=PromptSettings()).prompt(ASKED) == TASKS["math"].prompt(ASKED)


def test_options_stand_between_the_question_and_the_instruction():
    asked = Problem("x", "Which?", "A", choices=("tea", "wine"))
    assert task_named("choice", prompt=EXAMPLES).prompt(asked)[-1].content == "Which?\nA) tea\nB) wine\n\nBox it."


def test_a_conversation_of_the_problems_own_is_asked_as_it_stands():
    turns = (Message("system", "Be brief."), Message("user", "2+3?"))
    assert task_named("math", prompt=EXAMPLES).prompt(Problem("x", "", "5", messages=turns)) == turns


def test_without_a_template_examples_are_text_before_the_problem():
    plain = EXAMPLES.model_copy(update={"chat_template": "never"})
    tokenizer = chat_tokenizer(["What is 1+1? Box it."], "chatml", 300)
    shown = tokenizer.decode(prompt_ids(tokenizer, task_named("math", prompt=plain).prompt(ASKED), plain))
    assert shown == "What is 1+1?\n\nBox it.\n\n\\boxed{2}\n\nWhat is 2+3?\n\nBox it."


@pytest.mark.parametrize("example", [{"problem": "2+2?"}, {"problem": "2+2?", "answer": " "}, "2+2?"])
def test_an_example_without_problem_or_answer_is_refused(example):
    with pytest.raises(ValidationError, match=r"examples\.0"):
        PromptSettings(examples=(example,))


def test_another_instruction_or_example_is_another_run():
    base = JobConfig(task="math", model="m")
    jobs = [base, base.model_copy(update={"prompt": EXAMPLES})]
    jobs.append(base.model_copy(update={"prompt": EXAMPLES.model_copy(update={"examples": ()})}))
    assert len({run_identity(job, "public") for job in jobs}) == 3
