"""A site's privacy policy: what may leave, how much of it, and what a job must bring. One YAML file at the site.

`app_configs/site/` has three of them with comments. A rule that is misspelt is an error, never ignored.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fedrlvr.algorithms.schedule import planned_evaluations
from fedrlvr.config import MOST_NOISE, JobConfig, Settings

PII = ("birth_date", "email", "iban", "mrn", "nhs", "phone", "ssn")

Delta = Annotated[float, Field(gt=0, lt=1)]


class AdapterRules(Settings):
    """What is done to an adapter's difference before it leaves. Its noise is differential privacy of the unit *site*
    (add/remove); answers and scores have no such noise."""

    clip_norm: float | None = Field(None, gt=0, description="A larger L2 norm is scaled down to this; null: no limit.")
    noise_multiplier: float = Field(0.0, ge=0, le=MOST_NOISE, description="Gaussian noise, in units of `clip_norm`.")
    max_epsilon: float | None = Field(None, gt=0, description="What releases may cost in all jobs; null: no limit.")
    delta: Delta = Field(1e-5, description="The delta at which epsilon is counted.")
    min_problems: int = Field(0, ge=0, description="Private problems that a round must train on, or nothing leaves.")

    @model_validator(mode="after")
    def _noise_needs_a_scale(self) -> Self:
        if self.noise_multiplier > 0 and self.clip_norm is None:
            raise ValueError("adapters.noise_multiplier is relative to adapters.clip_norm, which is not set")
        if self.max_epsilon is not None and self.noise_multiplier == 0:
            raise ValueError("adapters.max_epsilon is set, but without adapters.noise_multiplier no epsilon is finite")
        return self


class PresidioRules(Settings):
    """What Presidio looks for besides, where 'fedrlvr[pii]' is installed."""

    model: Path = Field(description="A spaCy model: a folder at the site.")
    language: str = Field("en", description="The model's language.")
    entities: tuple[str, ...] = Field(("PERSON",), min_length=1, description="Presidio's names of what to look for.")
    threshold: float = Field(0.5, ge=0, le=1, description="The least score that counts as found.")

    @field_validator("entities")
    @classmethod
    def _without_the_network(cls, entities: tuple[str, ...]) -> tuple[str, ...]:
        for name in {"EMAIL_ADDRESS", "URL"} & set(entities):
            raise ValueError(f"Presidio asks the network about {name}; for e-mail addresses there is pii: [email]")
        return entities


class ResponseRules(Settings):
    """Which answers to public problems may leave. An answer that breaks a rule is dropped, never changed.

    Sequences of words that also stand in public problems are not counted as shared. With `ngram` on, *which* answers
    are missing tells of private problems: whoever chooses the adapter can ask.
    """

    share: bool = Field(True, description="false: no answer leaves.")
    propose_from: Literal["local", "global"] = Field(
        "local", description="Sample from the site's own adapter, or from the averaged one, which the server has."
    )
    max_length: int = Field(10_000, ge=1, le=100_000, description="In characters.")
    max_per_prompt: int = Field(8, ge=1, description="Answers to one problem in one exchange.")
    max_per_step: int = Field(1_000, ge=1, description="Answers in one exchange.")
    max_per_job: int | None = Field(None, ge=1, description="Answers in a whole job; null: no limit.")
    ngram: int = Field(0, ge=0, le=50, description="Words in a row that count as shared with a private text; 0: off.")
    max_shared_ngrams: int = Field(0, ge=0, description="Shared sequences and identifiers that an answer may have.")
    pii: tuple[Literal[PII], ...] = Field((), description="Kinds of personal data to look for.")
    phone_regions: tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...] = Field(
        ("US", "GB"), description="Countries (ISO 3166) whose national telephone numbers are recognised."
    )
    names: Path | None = Field(None, description="A file of names that may not leave, one a line; null: none.")
    presidio: PresidioRules | None = None


class MetricRules(Settings):
    """Which numbers may leave besides, and which words."""

    private_steps: bool = Field(True, description="Rewards, losses and so on of steps on private problems leave.")
    heldout: Literal["by_label", "overall", "none"] = Field(
        "by_label", description="What leaves of pass@k on the site's own held-out problems."
    )
    min_heldout: int = Field(0, ge=0, description="A score of fewer held-out problems stays here.")
    error_text: bool = Field(True, description="false: the server learns that a task failed, and not why.")


class TrainingRules(Settings):
    """What a job must bring. The unit of this differential privacy is one private problem (add/remove)."""

    require: Literal["none", "dp_grpo"] = Field("none", description="`dp_grpo`: a job without it is refused.")
    max_epsilon: float | None = Field(None, gt=0, description="What steps may cost in all jobs; null: no limit.")
    delta: Delta = Field(1e-5, description="The delta at which epsilon is counted.")
    secret_draws: bool = Field(
        False, description="Mix a secret of this site into its draws: who knows the seed cannot repeat its steps."
    )

    @model_validator(mode="after")
    def _limit_needs_noise(self) -> Self:
        if self.max_epsilon is not None and self.require != "dp_grpo":
            raise ValueError(
                "training.max_epsilon is set, but a job may come without noise: set training.require: dp_grpo"
            )
        if self.max_epsilon is None and self.require == "dp_grpo":
            raise ValueError("training.require is dp_grpo, but any noise would do: set training.max_epsilon")
        return self


class JobLimits(Settings):
    """The most that a job may ask of this site, by the names of its own settings; null: no limit."""

    num_generations: int | None = Field(None, ge=2, description="Of `grpo.num_generations`.")
    max_completion_length: int | None = Field(None, ge=1, description="Of `grpo.max_completion_length`.")
    prompts_per_step: int | None = Field(None, ge=1, description="Of `grpo` and `exchange`, each.")
    evaluation_samples: int | None = Field(None, ge=1, description="Of `evaluation.samples` and `curve_samples`, each.")
    evaluations: int | None = Field(None, ge=1, description="Measurements of pass@k that the whole job plans.")
    step_deadline: float | None = Field(None, gt=0, description="Of `federation.step_deadline`, in seconds.")
    verifier_deadline: float | None = Field(None, gt=0, description="Of `verifier.deadline`, in CPU-seconds.")
    memory_mb: int | None = Field(None, ge=512, description="Of `verifier.memory_mb`, in MiB.")

    def exceeded(self, job: JobConfig) -> str | None:
        """In words, the first limit that the job exceeds; None if it keeps all."""
        asked = {
            "num_generations": job.grpo.num_generations,
            "max_completion_length": job.grpo.max_completion_length,
            "prompts_per_step": max(job.grpo.prompts_per_step, job.exchange.prompts_per_step),
            "evaluation_samples": max(job.evaluation.samples, job.evaluation.curve_samples),
            "evaluations": planned_evaluations(job),
            "step_deadline": job.federation.step_deadline,
            "verifier_deadline": job.verifier.deadline,
            "memory_mb": job.verifier.memory_mb,
        }
        for name, value in asked.items():
            if (limit := getattr(self, name)) is not None and value > limit:
                return f"limits.{name} is {limit:g}, the job asks for {value:g}"
        return None


class SitePolicy(Settings):
    """A site's `policy.yaml`. Relative paths are taken from the folder of that file."""

    ledger: Path = Field(Path("fedrlvr-ledger.jsonl"), description="What was spent of the privacy budget.")
    log: Path = Field(Path("fedrlvr-egress.jsonl"), description="What left the site, and what did not.")
    lost_receipts: tuple[str, ...] = Field(
        (), description="Receipts of the server whose lines are lost for good; what they cost must be off max_epsilon."
    )
    adapters: AdapterRules = AdapterRules()
    responses: ResponseRules = ResponseRules()
    metrics: MetricRules = MetricRules()
    training: TrainingRules = TrainingRules()
    limits: JobLimits = JobLimits()

    @model_validator(mode="after")
    def _no_side_door(self) -> Self:
        """Where every private problem is to be covered, nothing may leave that was made of them without noise."""
        if self.log == self.ledger:
            raise ValueError(f"log and ledger are one file, {self.log.name}: give each its own")
        if self.training.require != "dp_grpo":
            return self
        for key, open_, value in (
            ("metrics.private_steps", self.metrics.private_steps, "false"),
            ("metrics.heldout", self.metrics.heldout != "none", "none"),
            ("metrics.error_text", self.metrics.error_text, "false"),
            ("responses.ngram", self.responses.share and self.responses.ngram > 0, "0 (or responses.share: false)"),
            ("responses.names", self.responses.share and self.responses.names, "nothing (or responses.share: false)"),
        ):
            if open_:
                raise ValueError(
                    f"training.require is dp_grpo, but {key} lets something out that depends on private problems and "
                    f"has no noise: set it to {value}"
                )
        return self
