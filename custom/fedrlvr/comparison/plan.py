"""What is compared: studies of variants, each over the same seeds and base models, in one YAML file.

A study is a preset, settings that all its runs share, and variants by what each sets in addition. A cell is one run.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from fedrlvr.config import Method, Settings
from fedrlvr.launch.experiment import ExperimentConfig, load_experiment
from fedrlvr.settings_file import SettingsError
from fedrlvr.task_package import package_of
from fedrlvr.version import source_hash

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
Overrides = tuple[str, ...]  # KEY=VALUE, as after --set


class Study(Settings):
    """One question. `reference` is the variant that the others are set against, pair by pair of seed and base model."""

    title: str = Field(description="A few words, for tables and figures.")
    question: str = Field(description="What the study asks, as a sentence.")
    preset: Path = Field(description="The preset of all its runs.")
    set: Overrides = Field((), description="Settings of all its runs: `[KEY=VALUE, ...]`.")
    methods: tuple[Method, ...] = Field((), description="Variants that differ in the method alone.")
    variants: dict[Label, Overrides] = Field({}, description="Further ones by name: what each sets in addition.")
    reference: Label = Field("pubswap", description="The variant that the others are set against.")
    slow: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="How many times slower some sites are, by a clock that counts work; empty: nothing is timed.",
    )
    equal_work: bool = Field(True, description="All variants sample as much and take as many steps; this is checked.")
    seeds: tuple[int, ...] | None = Field(None, description="null: those of the plan.")
    base_models: tuple[int, ...] | None = Field(None, description="null: those of the plan.")
    quick: tuple[Label, ...] = Field((), description="The variants that a quick comparison runs; empty: none.")
    real_model: bool = Field(False, description="The runs need a folder of problems and a model.")

    @property
    def overrides(self) -> dict[str, Overrides]:
        """Of each variant, methods first."""
        return {method: (f"method={method}",) for method in self.methods} | self.variants

    @model_validator(mode="after")
    def _known_variants(self) -> Self:
        for name, where in ((self.reference, "reference"), *((name, "quick") for name in self.quick)):
            if name not in self.overrides:
                raise ValueError(f"{where}: there is no variant {name!r}; there are: {', '.join(self.overrides)}")
        return self


class Plan(Settings):
    """A comparison. Base models are named by the seed of their warm start."""

    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1, description="Of the runs.")
    base_models: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1, description="`base_model.seed` of each.")
    quick_seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1, description="Of a quick comparison.")
    studies: dict[Label, Study] = Field(min_length=1, description="By name.")


@dataclass(frozen=True)
class Cell:
    """One run of a comparison."""

    study: str
    variant: str
    base_model: int
    seed: int

    def __str__(self) -> str:
        return f"{self.study}/{self.variant}-model{self.base_model}-seed{self.seed}"


def cells_of(plan: Plan, names: Sequence[str], seeds: Sequence[int] | None = None, quick: bool = False) -> list[Cell]:
    """The runs of these studies, seed by seed, so that a comparison that is cut short has whole pairs. `seeds` are
    taken in place of the plan's. A quick comparison has the variants that each study names for it, and one base
    model."""
    cells = []
    for name in names:
        study = plan.studies[name]
        variants = study.quick if quick else tuple(study.overrides)
        models = (study.base_models or plan.base_models)[: 1 if quick else None]
        chosen = seeds or (plan.quick_seeds if quick else study.seeds or plan.seeds)
        cells += [Cell(name, v, model, seed) for seed in chosen for model in models for v in variants]
    return cells


@dataclass(frozen=True)
class Run:
    """What a cell runs: its settings, how many times slower than others some sites are, and the folders of problems and
    model where they are not made."""

    experiment: ExperimentConfig
    slow: Mapping[str, float]
    data: Path | None = None
    model: Path | None = None

    @property
    def settings(self) -> str:
        """A hash of all that decides what the run ends in, but for our code and what is in the folders."""
        experiment = self.experiment
        files = [path.read_bytes() for path in (experiment.deepspeed, experiment.policy) if path]
        dumped = experiment.model_dump_json(exclude={"deepspeed", "policy"})
        package = package_of(self.experiment.task)  # its code is not in our source's hash
        text = repr([dumped, files, sorted(self.slow.items()), self.data, self.model, *([package] if package else [])])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def identity(self) -> dict[str, str]:
        """What a record must have to be of this run: the settings, and the code."""
        return {"settings": self.settings, "source": source_hash()}


def run_of(plan: Plan, cell: Cell, data: Path | None = None, model: Path | None = None) -> Run:
    """The run of a cell; `data` and `model` are for studies with a real model. Raises SettingsError, which names the
    cell."""
    study = plan.studies[cell.study]
    own = () if study.real_model else (f"base_model.seed={cell.base_model}",)
    overrides = (*study.set, *own, *study.overrides[cell.variant])
    try:
        experiment = load_experiment(study.preset, overrides, seed=cell.seed)
    except SettingsError as error:
        raise SettingsError(f"{cell}: {error}") from None
    if unknown := sorted(study.slow.keys() - (experiment.data.sites if experiment.data else {})):
        raise SettingsError(f"{cell}: slow: there is no site {unknown[0]!r}")
    return Run(experiment, study.slow, data, model) if study.real_model else Run(experiment, study.slow)
