"""A site's privacy policy: what may leave, how much of it, and what a job must bring. One YAML file at the site.

`app_configs/site/` has three of them with comments. A rule that is misspelt is an error, never ignored.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fedrlvr.algorithms.schedule import planned_evaluations
from fedrlvr.config import MOST_NOISE, JobConfig, Settings

# What compares answers with private texts -> how it is switched off.
COMPARISONS = {
    "ngram": 0,
    "rare_words": 0,
    "rare_words_per_step": "null",
    "rare_share_per_job": "null",
    "names": "null",
}
LONG = 15  # words in a row that are a secret even if each of them is an everyday one
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
    """What Presidio looks for besides, where presidio-analyzer is installed."""

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

    A word is rare that is neither an everyday word of one of the `languages`, nor in a public text, nor in many private
    problems. `ngram` also looks for identifiers, for whole short questions and answers, and for 15 words in a row of
    any kind. With `ngram`, `names` or a rule for rare words, *which* answers are missing tells of private texts:
    whoever chooses the adapter can ask, `max_private_drops` times.
    """

    share: bool = Field(True, description="false: no answer leaves.")
    propose_from: Literal["local", "global"] = Field(
        "local", description="Sample from the site's own adapter, or from the averaged one, which the server has."
    )
    logprobs: bool = Field(
        False,
        description="An answer's token log-probabilities leave, where a job asks; false: such a job is refused.",
    )
    max_length: int = Field(10_000, ge=1, le=100_000, description="In characters.")
    max_per_prompt: int = Field(8, ge=1, description="Answers to one problem in one exchange.")
    max_per_step: int = Field(1_000, ge=1, description="Answers in one exchange.")
    max_per_job: int | None = Field(None, ge=1, description="Answers in a whole job; null: no limit.")
    ngram: int = Field(
        0, ge=0, lt=LONG, description="Words in a row, one of them rare, that no private problem may share; 0: off."
    )
    rare_words: int = Field(
        0, ge=0, description="Rare words that no private problem may share with an answer, in any order; 0: off."
    )
    rare_words_per_step: int | None = Field(
        None, ge=1, description="Rare words of one private problem that leave in one exchange; null: no limit."
    )
    rare_share_per_job: float | None = Field(
        None, gt=0, le=1, description="The same in a job, as a share of them, but twice `rare_words`; null: no limit."
    )
    max_private_drops: int | None = Field(
        None, ge=1, description="Answers dropped by these rules after which a job gets no more; null: no limit."
    )
    languages: tuple[str, ...] = Field(("en",), description="Languages (ISO 639) whose everyday words are not rare.")
    public_texts: tuple[Path, ...] = Field(
        (), description="Files of public texts besides the public problems: JSON Lines with `text`, or problem files."
    )
    pii: tuple[Literal[PII], ...] = Field((), description="Kinds of personal data to look for.")
    phone_regions: tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...] = Field(
        ("US", "GB"), description="Countries (ISO 3166) whose national telephone numbers are recognised."
    )
    names: Path | None = Field(None, description="A file of names that may not leave, one a line; null: none.")
    presidio: PresidioRules | None = None

    @property
    def compares(self) -> bool:
        """Whether answers are compared with private problems."""
        return any(getattr(self, name) for name in COMPARISONS if name != "names")


class MetricRules(Settings):
    """Which numbers may leave besides, and which words."""

    private_steps: bool = Field(True, description="Rewards, losses and so on of steps on private problems leave.")
    public_shares: bool = Field(
        False,
        description="Which public problems are solved, or what share of completions to each is right, leaves if asked.",
    )
    heldout: Literal["by_label", "overall", "none"] = Field(
        "by_label", description="What leaves of pass@k on the site's own held-out problems."
    )
    min_heldout: int = Field(0, ge=0, description="A score of fewer held-out problems stays here.")
    error_text: bool = Field(
        True,
        description="false: why a task failed stays here. Why the site refuses a job or a request is always told.",
    )


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
        closed = "responses.share: false"
        for key, open_, value in (
            ("metrics.private_steps", self.metrics.private_steps, "false"),
            ("metrics.heldout", self.metrics.heldout != "none", "none"),
            ("metrics.error_text", self.metrics.error_text, "false"),
            *(
                (f"responses.{name}", self.responses.share and getattr(self.responses, name), f"{off} (or {closed})")
                for name, off in COMPARISONS.items()
            ),
        ):
            if open_:
                raise ValueError(
                    f"training.require is dp_grpo, but {key} lets something out that depends on private problems and "
                    f"has no noise: set it to {value}"
                )
        return self
