"""What a model is asked, how its answer is judged, and how often that is measured."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fedrlvr.config.base import Settings


class VerifierSettings(Settings):
    """How a completion's answer is found and compared."""

    fallback: Literal["none", "last_line"] = Field(
        "none",
        description="Without a balanced `\\boxed{}`: no answer, or a last line such as `#### 4` or `The answer is 4`.",
    )
    allow_expressions: bool = Field(False, description="An unevaluated `2+2` counts as 4.")
    max_answer_length: int = Field(300, ge=1, le=10_000, description="In characters; a longer answer is wrong.")
    deadline: float = Field(2.0, gt=0, le=60, description="CPU-seconds of math-verify for one answer.")
    memory_mb: int = Field(1024, ge=512, description="Memory of the process that compares, in MiB.")


# What `apply_chat_template` takes for itself, above all the template: a job brings no code to a site.
RENDERING = (
    {"conversation", "messages", "tools", "documents", "chat_template", "sanitize_control_tokens"}
    | {"add_generation_prompt", "continue_final_message"}
    | {"tokenize", "tokenizer_kwargs", "padding", "truncation", "max_length"}
    | {"return_tensors", "return_dict", "return_assistant_tokens_mask"}
)


class Example(Settings):
    """A worked example: a problem, and what a model should answer."""

    problem: str = Field(pattern=r"\S")
    answer: str = Field(pattern=r"\S")


class PromptSettings(Settings):
    """What a model is shown of a problem, the same at every site. A problem with `messages` of its own is asked as it
    stands, without instruction and examples."""

    chat_template: Literal["auto", "never"] = Field("auto", description="Use the model's own template if it has one.")
    system_prompt: str | None = Field(None, description="Goes before every problem; null: none.")
    instruction: str | None = Field(None, description="Follows every problem; null: the task's own; empty: none.")
    examples: tuple[Example, ...] = Field(
        (), description="Worked examples before every problem, as turns: `[{problem: ..., answer: ...}]`."
    )
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(
        {}, description="Variables of the template, such as `{enable_thinking: false}`."
    )

    @field_validator("chat_template_kwargs")
    @classmethod
    def _only_variables(cls, values: dict) -> dict:
        taken = sorted(RENDERING & values.keys())
        if taken:
            raise ValueError(f"{taken[0]} is not a variable of the model's template; leave it out")
        return values


class EvaluationSettings(Settings):
    """How often, and with how many completions, pass@k is measured."""

    samples: int = Field(4, ge=1, description="Completions of each problem before the first and after each round.")
    k: tuple[Annotated[int, Field(ge=1)], ...] = Field((1,), description="pass@k for these k; 1 must be among them.")
    every_segments: int | None = Field(None, ge=1, description="Measure every so many segments too; null: never.")
    curve_samples: int = Field(1, ge=1, description="Completions of each problem in these measurements.")
    own_problems: int | None = Field(
        128,
        ge=1,
        description="Test problems on which a site measures its own adapter between averages; null: all.",
    )
