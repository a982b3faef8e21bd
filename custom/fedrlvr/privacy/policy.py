"""A site's privacy policy: what may leave, how much of it, and what a job must bring. One YAML file at the site.

`app_configs/site/` has three of them with comments. A rule that is misspelt is an error, never ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fedrlvr.config import MOST_NOISE, Settings

PII = ("birth_date", "email", "iban", "mrn", "nhs", "phone", "ssn")

Delta = Annotated[float, Field(gt=0, lt=1)]


class AdapterRules(Settings):
    """What is done to an adapter's difference before it leaves.

    `clip_norm`: its L2 norm over all tensors is scaled down to this (None: left as it is). `noise_multiplier`: Gaussian
    noise of standard deviation noise_multiplier * clip_norm on every number. That is differential privacy of the unit
    *site* (add/remove): the adapters that leave hardly depend on the site's data. Answers and scores have no such
    noise. With `max_epsilon` the site refuses once its releases would together exceed (max_epsilon, delta).
    """

    clip_norm: float | None = Field(None, gt=0)
    noise_multiplier: float = Field(0.0, ge=0, le=MOST_NOISE)
    max_epsilon: float | None = Field(None, gt=0)
    delta: Delta = 1e-5

    @model_validator(mode="after")
    def _noise_needs_a_scale(self) -> AdapterRules:
        if self.noise_multiplier > 0 and self.clip_norm is None:
            raise ValueError("adapters.noise_multiplier is relative to adapters.clip_norm, which is not set")
        if self.max_epsilon is not None and self.noise_multiplier == 0:
            raise ValueError("adapters.max_epsilon is set, but without adapters.noise_multiplier no epsilon is finite")
        return self


class PresidioRules(Settings):
    """What Presidio looks for besides: `entities` by its names, with a score of `threshold` or more, by the spaCy
    `model` in a folder of the site's."""

    model: Path
    language: str = "en"
    entities: tuple[str, ...] = Field(("PERSON",), min_length=1)
    threshold: float = Field(0.5, ge=0, le=1)

    @field_validator("entities")
    @classmethod
    def _without_the_network(cls, entities: tuple[str, ...]) -> tuple[str, ...]:
        for name in {"EMAIL_ADDRESS", "URL"} & set(entities):
            raise ValueError(f"Presidio asks the network about {name}; for e-mail addresses there is pii: [email]")
        return entities


class ResponseRules(Settings):
    """Which answers to public problems may leave. An answer that breaks a rule is dropped, never mended.

    `share`: whether any may. `propose_from`: sampled from the site's own adapter, or from the averaged one that the
    server has anyway: an answer then tells nothing of this site but which rules it passed. Lengths are in characters.
    `ngram`, `max_shared_ngrams`: an answer with more than so many sequences of `ngram` words (or single words that look
    like an identifier) in common with the private problems and answers, public problems' own sequences not counted, is
    dropped; `ngram` 0 switches that off. With it on, *which* answers are missing tells of private problems: whoever
    chooses the adapter can ask. `pii`: kinds of personal data looked for; `names`: a file of names, one a line;
    `phone_regions`: countries (ISO 3166) whose national numbers are telephone numbers; `presidio`: what else to look
    for, where 'fedrlvr[pii]' is installed.
    """

    share: bool = True
    propose_from: Literal["local", "global"] = "local"
    max_length: int = Field(10_000, ge=1, le=100_000)
    max_per_prompt: int = Field(8, ge=1)
    max_per_step: int = Field(1_000, ge=1)
    max_per_job: int | None = Field(None, ge=1)
    ngram: int = Field(0, ge=0, le=50)
    max_shared_ngrams: int = Field(0, ge=0)
    pii: tuple[Literal[PII], ...] = ()
    phone_regions: tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...] = ("US", "GB")
    names: Path | None = None
    presidio: PresidioRules | None = None


class MetricRules(Settings):
    """Which numbers may leave besides. `private_steps`: rewards, losses and so on of steps on private problems.
    `heldout`: pass@k on the site's own held-out problems, by label, overall only, or not at all. `error_text`: whether
    an error that goes to the server says what happened, or only that something did.
    """

    private_steps: bool = True
    heldout: Literal["by_label", "overall", "none"] = "by_label"
    error_text: bool = True


class TrainingRules(Settings):
    """What a job has to bring to be let in: with `require` dp_grpo, example-level differential privacy in every private
    step (unit: one private problem, add/remove); a step that would exceed (max_epsilon, delta) over all jobs on the
    site's model is refused.
    """

    require: Literal["none", "dp_grpo"] = "none"
    max_epsilon: float | None = Field(None, gt=0)
    delta: Delta = 1e-5

    @model_validator(mode="after")
    def _limit_needs_noise(self) -> TrainingRules:
        if self.max_epsilon is not None and self.require != "dp_grpo":
            raise ValueError(
                "training.max_epsilon is set, but a job may come without noise: set training.require: dp_grpo"
            )
        if self.max_epsilon is None and self.require == "dp_grpo":
            raise ValueError("training.require is dp_grpo, but any noise would do: set training.max_epsilon")
        return self


class SitePolicy(Settings):
    """`ledger` and `log` are files at the site, outside any job's folder: what was spent, and what left. Relative paths
    are taken from the folder of the policy's file."""

    ledger: Path = Path("fedrlvr-ledger.jsonl")
    log: Path = Path("fedrlvr-egress.jsonl")
    adapters: AdapterRules = AdapterRules()
    responses: ResponseRules = ResponseRules()
    metrics: MetricRules = MetricRules()
    training: TrainingRules = TrainingRules()

    @model_validator(mode="after")
    def _no_side_door(self) -> SitePolicy:
        """Where every private problem is to be covered, nothing may leave that was made of them without noise."""
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

    def rooted(self, folder: Path) -> SitePolicy:
        """The same policy with its paths made absolute under `folder`."""
        answers = self.responses
        changes: dict = {"names": folder / answers.names if answers.names else None}
        if answers.presidio:
            model = folder / answers.presidio.model
            changes["presidio"] = answers.presidio.model_copy(update={"model": model})
        return self.model_copy(
            update={
                "ledger": folder / self.ledger,
                "log": folder / self.log,
                "responses": answers.model_copy(update=changes),
            }
        )
