"""Every setting of a job, as validated models. What a site owns is in `site_config.py`; `settings_file.py` reads files.

A job holds only algorithm settings and names: no path, no hardware. The descriptions are the reference that
`fedrlvr settings` prints.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _from_the_files_folder(cls, value: object, info: ValidationInfo) -> object:
        folder = (info.context or {}).get("folder")  # given where a file is read
        if folder is None:
            return value
        if isinstance(value, tuple):
            return tuple(folder / part if isinstance(part, Path) else part for part in value)
        return folder / value if isinstance(value, Path) else value

    def write(self, path: Path) -> None:
        """Write a file that `load_settings` reads."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False))


MOST_SEGMENTS = 100_000  # of a job; every message says which one it is about
MOST_STEPS = 10_000  # of a task; its answer has a record of each
# The noise that a job or a site may ask for, relative to the clip norm: outside of it no accountant's series holds.
LEAST_NOISE, MOST_NOISE = 0.05, 1000.0

Decay = Annotated[float, Field(ge=0, lt=1)]


class LoraSettings(Settings):
    """The adapter, with PEFT's names."""

    r: int = Field(8, ge=1, description="The rank of the adapter.")
    alpha: float = Field(16.0, gt=0, description="The adapter is scaled by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input, in training.")
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj"),
        description="Ends of module names; `all-linear` is every linear layer except the head.",
    )


class GrpoSettings(Settings):
    """One GRPO step, with TRL's names."""

    num_generations: int = Field(8, ge=2, description="Completions sampled for each prompt: a group.")
    prompts_per_step: int = Field(8, ge=1, description="Private problems in one private step.")
    max_prompt_length: int | None = Field(
        None,
        ge=1,
        description="In tokens; longer prompts are left out, or not solved where measured; null: as the model allows.",
    )
    max_completion_length: int = Field(256, ge=1, description="In tokens.")
    temperature: float = Field(1.0, gt=0, description="Of sampling, in training and in evaluation.")
    num_iterations: int = Field(1, ge=1, le=1000, description="Passes over each sampled batch.")
    num_minibatches: int = Field(1, ge=1, description="Optimizer steps in each pass.")
    epsilon: float = Field(0.2, gt=0, lt=1, description="The probability ratio is clipped below 1 - epsilon.")
    epsilon_high: float | None = Field(None, gt=0, description="It is clipped above 1 + this; null: as `epsilon`.")
    beta: float = Field(0.0, ge=0, description="Weight of the KL divergence from the base model in the loss.")
    loss_type: Literal["grpo", "bnpo", "dr_grpo"] = Field(
        "dr_grpo",
        description="Token losses are divided by the completion's length, by all tokens of the step, or by a constant.",
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group", description="Advantages are divided by the standard deviation of the group, of the batch, or not."
    )
    negative_advantage_scale: float = Field(1.0, ge=0, description="Factor on negative advantages.")
    mask_truncated_completions: bool = Field(False, description="Leave completions that hit the limit out of the loss.")


class OptimizerSettings(Settings):
    """AdamW."""

    learning_rate: float = Field(1e-5, ge=0, description="The highest of the job.")
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="After the warm-up, over all steps that the job plans: constant, or falling to 0."
    )
    warmup_ratio: float = Field(0.0, ge=0, lt=1, description="The share of these steps in which the rate rises from 0.")
    betas: tuple[Decay, Decay] = Field((0.9, 0.99), description="Decay rates of AdamW's two moments.")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="The gradient's L2 norm is clipped to this.")
    reset_each_round: bool = Field(True, description="Start each round with fresh moments.")


class SwapSettings(Settings):
    """Which of a site's own wrong completions are replaced by right answers of other sites."""

    prefer: Literal["random", "short"] = Field("random", description="Which pooled answers to a problem go first.")
    repeat: bool = Field(False, description="One pooled answer may take several places in a group.")
    keep_incorrect: int = Field(1, ge=0, description="Wrong completions that stay in each group.")
    max_swaps: int | None = Field(None, ge=0, description="At most this many swaps in a group; null: no limit.")


class ExchangeSettings(Settings):
    """When sites exchange verified answers to public problems, and how many."""

    prompts_per_step: int = Field(8, ge=1, description="Public problems in one public step.")
    schedule: Literal["every"] | tuple[int, ...] = Field(
        "every", description="Public steps that begin with an exchange, counted from 0 over the job, rising."
    )
    keep_pool: bool = Field(True, description="A site keeps what it received, for later public steps.")
    max_per_site: int = Field(4, ge=1, description="Answers of one site to one problem that are passed on.")
    max_per_prompt: int = Field(16, ge=1, description="Answers to one problem that a site gets and keeps.")


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


class FederationSettings(Settings):
    """Rounds, segments, and who has to be there. A segment is `local_steps` private steps and one public step."""

    rounds: int = Field(2, ge=1, description="Adapters are averaged at the end of each round.")
    segments_per_round: int = Field(12, ge=1, description="Segments in a round.")
    local_steps: int = Field(1, ge=1, description="Private steps in a segment.")
    segments_per_task: int = Field(1, ge=1, description="Segments that a site works through in one task, at most.")
    aggregator: Literal["fedit", "svd"] = Field(
        "svd", description="Average the factors, or take the best rank-r approximation of the mean product."
    )
    min_sites: int = Field(1, ge=1, description="The run ends if fewer sites than this are left.")
    step_deadline: float = Field(
        3600.0, gt=0, description="Seconds a site may work on one task; all other time-outs follow from it."
    )
    max_update_norm: float | None = Field(None, gt=0, description="The server refuses an update of a larger L2 norm.")

    @property
    def start_deadline(self) -> float:
        """Seconds a worker may take to load its libraries and its model: a slow disk is no failure."""
        return max(600.0, self.step_deadline)


class PrivacySettings(Settings):
    """Differential privacy of one private problem, in the private steps. Problems are then Poisson-sampled."""

    mode: Literal["none", "dp_grpo"] = Field("none", description="`dp_grpo` switches it on.")
    clip_norm: float = Field(1.0, gt=0, description="The gradient of each problem's group is clipped to this L2 norm.")
    noise_multiplier: float = Field(
        1.0, ge=LEAST_NOISE, le=MOST_NOISE, description="Noise on their sum, in units of `clip_norm`."
    )


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


Method = Literal["pubswap", "fedavg", "fedavg+public", "replace-all", "local", "centralised"]


class JobConfig(Settings):
    """Everything that is agreed between the sites of one job."""

    name: str = Field("fedrlvr", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Of the job and its folder.")
    method: Method = Field("pubswap", description="What sites exchange and average.")
    seed: int = Field(0, ge=0, description="All draws follow from it, but for those that a site keeps secret.")
    task: str = Field(description="The problems, the prompt and the verifier: a name in `fedrlvr.tasks.TASKS`.")
    model: str = Field(description="The name by which each site's own file offers the base model.")
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
    def _combinations(self) -> Self:
        rows, ks, samples = self.grpo.num_generations, self.evaluation.k, self.evaluation.samples
        if self.swap.keep_incorrect >= rows:
            raise ValueError(
                f"swap.keep_incorrect is {self.swap.keep_incorrect}, but a group has only "
                f"grpo.num_generations = {rows} completions: nothing could ever be swapped; choose a smaller value"
            )
        if self.total_segments > MOST_SEGMENTS:
            raise ValueError(
                f"federation: rounds x segments_per_round is {self.total_segments}, at most {MOST_SEGMENTS} are "
                "possible; take more local_steps in a segment"
            )
        in_a_task = min(self.federation.segments_per_task, self.federation.segments_per_round)
        if (steps := in_a_task * (self.federation.local_steps + 1)) > MOST_STEPS:
            raise ValueError(
                f"federation: segments_per_task x (local_steps + 1) is {steps} steps, at most {MOST_STEPS} are possible"
            )
        if 1 not in ks:
            raise ValueError(f"evaluation.k must contain 1, as pass@1 is what runs are compared by; found {ks}")
        if (k := max(ks)) > samples:
            raise ValueError(f"evaluation.k asks for pass@{k}, which needs evaluation.samples >= {k}, not {samples}")
        if self.privacy.mode == "dp_grpo":
            self._check_dp_grpo()
        if self.exchange.schedule != "every":
            self._check_schedule(list(self.exchange.schedule))
        return self

    def _check_schedule(self, schedule: list[int]) -> None:
        if schedule != sorted(set(schedule)):
            raise ValueError(f"exchange.schedule must rise strictly, not {schedule}")
        outside = [step for step in schedule if not 0 <= step < self.total_segments]
        if outside:
            raise ValueError(
                f"exchange.schedule names public step {outside[0]}, but there are only {self.total_segments} "
                "(federation.rounds x federation.segments_per_round, counted from 0)"
            )

    def _check_dp_grpo(self) -> None:
        """One problem may influence its own group's gradient only, or the noise would not hide it."""
        needed = {"num_minibatches": [1], "loss_type": ["dr_grpo"], "scale_rewards": ["group", "none"]}
        for key, values in needed.items():
            if (found := getattr(self.grpo, key)) not in values:
                allowed = " or ".join(map(str, values))
                raise ValueError(f"grpo.{key} is {found}, but privacy.mode: dp_grpo needs {allowed}")

    @property
    def total_segments(self) -> int:
        return self.federation.rounds * self.federation.segments_per_round
