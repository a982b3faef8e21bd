"""Every setting of a job, as validated models. What a site owns is in `site_config.py`; how files are read, in
`settings_file.py`.

GRPO settings carry TRL's names. A job holds only algorithm settings and names: no path, no hardware.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


# The noise that a job or a site may ask for, relative to the clip norm: outside of it no accountant's series holds.
LEAST_NOISE, MOST_NOISE = 0.05, 1000.0

Decay = Annotated[float, Field(ge=0, lt=1)]


class LoraSettings(Settings):
    """PEFT's names. `target_modules`: ends of module names, or "all-linear" for every linear layer but the head."""

    r: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    )


class GrpoSettings(Settings):
    """One GRPO step. `num_minibatches` optimizer steps per pass, `num_iterations` passes over each sampled batch."""

    num_generations: int = Field(8, ge=2)
    prompts_per_step: int = Field(8, ge=1)
    max_completion_length: int = Field(256, ge=1)
    temperature: float = Field(1.0, gt=0)
    num_iterations: int = Field(1, ge=1, le=1000)
    num_minibatches: int = Field(1, ge=1)
    epsilon: float = Field(0.2, gt=0, lt=1)
    epsilon_high: float | None = Field(None, gt=0)
    beta: float = Field(0.0, ge=0)
    loss_type: Literal["grpo", "bnpo", "dr_grpo"] = "dr_grpo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    negative_advantage_scale: float = Field(1.0, ge=0)
    mask_truncated_completions: bool = False


class OptimizerSettings(Settings):
    learning_rate: float = Field(1e-5, ge=0)
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    adam_epsilon: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    reset_each_round: bool = True


class SwapSettings(Settings):
    """Which own completions give way to pooled ones.

    `repeat`: one pooled answer may take several places, for tasks where right answers have a single wording.
    """

    prefer: Literal["random", "short"] = "random"
    repeat: bool = False
    keep_incorrect: int = Field(1, ge=0)
    max_swaps: int | None = Field(None, ge=0)


class ExchangeSettings(Settings):
    """When sites exchange verified answers, how many may travel, and whether a site keeps them for later steps."""

    prompts_per_step: int = Field(8, ge=1)
    schedule: Literal["every"] | tuple[int, ...] = "every"
    keep_pool: bool = True
    max_per_site: int = Field(4, ge=1)
    max_per_prompt: int = Field(16, ge=1)


class VerifierSettings(Settings):
    """How a completion's answer is found and compared.

    `fallback`: what counts where there is no balanced `\\boxed{}`: nothing, or the last line if it reads `#### answer`,
    `Answer: answer` or `The answer is answer`. `allow_expressions`: whether an unevaluated expression such as 2+2
    counts as its value. `max_answer_length` in characters; `deadline` in CPU-seconds and `memory_mb` bound the process
    that compares expressions.
    """

    fallback: Literal["none", "last_line"] = "none"
    allow_expressions: bool = False
    max_answer_length: int = Field(300, ge=1, le=10_000)
    deadline: float = Field(2.0, gt=0, le=60)
    memory_mb: int = Field(1024, ge=512)


# What `apply_chat_template` takes for itself, above all the template: a job brings no code to a site.
RENDERING = {
    "conversation",
    "tools",
    "documents",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
    "sanitize_control_tokens",
    "messages",
}


class PromptSettings(Settings):
    """How a prompt becomes tokens, the same at every site. `chat_template`: use the model's own where it has one, or
    never; `chat_template_kwargs` go to it as they are (`{enable_thinking: false}`)."""

    chat_template: Literal["auto", "never"] = "auto"
    system_prompt: str | None = None
    chat_template_kwargs: dict[str, bool | int | float | str] = {}

    @field_validator("chat_template_kwargs")
    @classmethod
    def _only_variables(cls, values: dict) -> dict:
        taken = sorted(RENDERING & values.keys())
        if taken:
            raise ValueError(f"{taken[0]} is not a variable of the model's template; leave it out")
        return values


class FederationSettings(Settings):
    """`step_deadline`: seconds a site may work on one task. Every other time-out follows from it (`Deadlines`)."""

    rounds: int = Field(2, ge=1)
    segments_per_round: int = Field(12, ge=1)
    local_steps: int = Field(1, ge=1)
    segments_per_task: int = Field(1, ge=1)
    aggregator: Literal["fedit", "svd"] = "svd"
    min_sites: int = Field(1, ge=1)
    step_deadline: float = Field(3600.0, gt=0)
    max_update_norm: float | None = Field(None, gt=0)

    @property
    def start_deadline(self) -> float:
        """Seconds a worker may take to load its libraries and its model: a slow disk is no failure."""
        return max(600.0, self.step_deadline)


class PrivacySettings(Settings):
    """Example-level differential privacy of the private steps (`mode` dp_grpo; the unit is one private problem).

    Problems are Poisson-sampled, each one's group gradient is clipped to the L2 norm `clip_norm`, and Gaussian noise of
    standard deviation noise_multiplier * clip_norm is added to their sum.
    """

    mode: Literal["none", "dp_grpo"] = "none"
    clip_norm: float = Field(1.0, gt=0)
    noise_multiplier: float = Field(1.0, ge=LEAST_NOISE, le=MOST_NOISE)


class EvaluationSettings(Settings):
    """`samples` completions per problem at round ends; `curve_samples` every `every_segments` segments in between."""

    samples: int = Field(4, ge=1)
    k: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    every_segments: int | None = Field(None, ge=1)
    curve_samples: int = Field(1, ge=1)


Method = Literal["pubswap", "fedavg", "fedavg+public", "replace-all", "local", "centralised"]


class JobConfig(Settings):
    """Everything that is agreed between the sites of one job."""

    name: str = Field("fedrlvr", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    method: Method = "pubswap"
    seed: int = Field(0, ge=0)
    task: str
    model: str
    lora: LoraSettings = LoraSettings()
    grpo: GrpoSettings = GrpoSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    swap: SwapSettings = SwapSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    federation: FederationSettings = FederationSettings()
    privacy: PrivacySettings = PrivacySettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    verifier: VerifierSettings = VerifierSettings()
    prompt: PromptSettings = PromptSettings()

    @model_validator(mode="after")
    def _combinations(self) -> JobConfig:
        rows = self.grpo.num_generations
        if self.swap.keep_incorrect >= rows:
            raise ValueError(
                f"swap.keep_incorrect is {self.swap.keep_incorrect}, but a group has only "
                f"grpo.num_generations = {rows} completions: nothing could ever be swapped; choose a smaller value"
            )
        if 1 not in self.evaluation.k:
            raise ValueError(
                f"evaluation.k must contain 1, as pass@1 is what runs are compared by; found {self.evaluation.k}"
            )
        if max(self.evaluation.k) > self.evaluation.samples:
            raise ValueError(
                f"evaluation.k asks for pass@{max(self.evaluation.k)}, which needs evaluation.samples >= "
                f"{max(self.evaluation.k)}, not {self.evaluation.samples}"
            )
        if self.privacy.mode == "dp_grpo":
            self._check_dp_grpo()
        steps = self.federation.rounds * self.federation.segments_per_round
        schedule = self.exchange.schedule
        if schedule != "every":
            if list(schedule) != sorted(set(schedule)):
                raise ValueError(f"exchange.schedule must rise strictly, not {list(schedule)}")
            outside = [step for step in schedule if not 0 <= step < steps]
            if outside:
                raise ValueError(
                    f"exchange.schedule names public step {outside[0]}, but there are only {steps} "
                    "(federation.rounds x federation.segments_per_round, counted from 0)"
                )
        return self

    def _check_dp_grpo(self) -> None:
        """One problem may influence its own group's gradient only, or the noise would not hide it."""
        for key, found, needed in (
            ("grpo.num_minibatches", self.grpo.num_minibatches, 1),
            ("grpo.loss_type", self.grpo.loss_type, "dr_grpo"),
        ):
            if found != needed:
                raise ValueError(f"{key} is {found}, but privacy.mode: dp_grpo needs {needed}")
        if self.grpo.scale_rewards == "batch":
            raise ValueError("grpo.scale_rewards is batch, but privacy.mode: dp_grpo needs group or none")

    @property
    def total_segments(self) -> int:
        return self.federation.rounds * self.federation.segments_per_round
