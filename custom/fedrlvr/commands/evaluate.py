"""`fedrlvr evaluate`: pass@k of a model, with or without an adapter, on a problem file.

Each problem's result is written to disk as soon as it is known. The same command continues an interrupted measurement.
"""

import argparse
from pathlib import Path

from pydantic import Field

from fedrlvr.commands.quiet import quiet
from fedrlvr.commands.shared import DEVICES, DTYPES, add_job, check_files, check_job
from fedrlvr.config import GrpoSettings, PromptSettings, Settings, VerifierSettings
from fedrlvr.data.problems import read_problems, task_in
from fedrlvr.launch.experiment import ExperimentConfig, load_experiment
from fedrlvr.peft_folder import check_peft_folder
from fedrlvr.settings_file import SettingsError, validate_settings
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import task_named


class Sampling(Settings):
    """How completions are sampled."""

    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    max_prompt_length: int | None = Field(ge=1)
    max_completion_length: int = Field(ge=1)

    def in_words(self, samples: int) -> str:
        if self.temperature == 0:
            return "greedy"
        nucleus = f", top-p {self.top_p:g}" if self.top_p < 1 else ""
        return f"temperature {self.temperature:g}{nucleus}, samples {samples}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a Hugging Face directory")
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="a PEFT directory, such as a run's adapter/")
    parser.add_argument("--problems", type=Path, required=True, metavar="FILE", help="JSON Lines, such as test.jsonl")
    parser.add_argument("--task", help="default: the task that the problems name")
    parser.add_argument("--samples", type=int, default=1, help="completions per problem (default: %(default)s)")
    parser.add_argument("--k", default="1", help="pass@k for these k, as in 1,8 (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for results and completions; a run continues here"
    )
    add_job(parser, "takes prompt, verifier, temperature and length from it")
    parser.add_argument("--temperature", type=float, help="0: the likeliest token; default: the preset's, or 1")
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="only the likeliest tokens of this probability together"
    )
    parser.add_argument("--max-completion-length", type=int, help="in tokens; default: the preset's, or 256")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--batch-size", type=int, help="completions at once; default: as many as fit into memory")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N completions and their verdicts")


def run(arguments: argparse.Namespace) -> int:
    check_files(arguments, "problems")
    check_job(arguments)
    ks = _ks(arguments)
    preset = load_experiment(arguments.config, arguments.set, arguments.tiny) if arguments.config else None
    name = _task_name(arguments, preset)
    prompt, verifier, sampling = _job_part(arguments, preset, name)
    if arguments.out.exists() and not arguments.out.is_dir():
        raise SettingsError(f"--out {arguments.out}: is a file; choose a folder")
    for flag, value, least in (("batch-size", arguments.batch_size, 1), ("show", arguments.show, 0)):
        if value is not None and value < least:
            raise SettingsError(f"--{flag} {value}: expected {least} or more")
    settings = LocalModel(model_path=arguments.model, device=arguments.device, dtype=arguments.dtype)
    settings.check_model("--model")
    if arguments.adapter:
        check_peft_folder(arguments.adapter)
    task = task_named(name, verifier, prompt)
    problems = read_problems(arguments.problems, task)
    quiet()
    from fedrlvr.commands.evaluate_model import evaluate_model  # loads torch

    return evaluate_model(arguments, settings, task, prompt, problems, sampling, ks)


def _ks(arguments) -> list[int]:
    try:
        ks = sorted({int(k) for k in arguments.k.split(",")})
    except ValueError:
        raise SettingsError(f"--k {arguments.k}: expected whole numbers separated by commas, as in 1,8") from None
    if not 1 <= ks[0] <= ks[-1] <= arguments.samples:
        raise SettingsError(f"--k {arguments.k}: pass@k needs 1 <= k <= --samples, which is {arguments.samples}")
    return ks


def _job_part(
    arguments, preset: ExperimentConfig | None, task: str
) -> tuple[PromptSettings, VerifierSettings, Sampling]:
    """Prompt, verifier and sampling: from the flags, else from the preset, else the defaults. Raises SettingsError for
    a preset of another task."""
    prompt, verifier, grpo = PromptSettings(), VerifierSettings(), GrpoSettings()
    if preset is not None:
        if preset.task != task:
            raise SettingsError(
                f"--config {arguments.config}: is for the task {preset.task}, and the problems are for {task}; "
                "choose another preset"
            )
        prompt, verifier, grpo = preset.prompt, preset.verifier, preset.grpo
    flags = {name: getattr(arguments, name) for name in ("temperature", "max_completion_length")}
    given = {name: value for name, value in flags.items() if value is not None}
    from_job = {name: getattr(grpo, name) for name in (*flags, "max_prompt_length")}
    sampling = validate_settings(Sampling, from_job | given | {"top_p": arguments.top_p}, "evaluate")
    if sampling.temperature == 0 and arguments.samples > 1:
        raise SettingsError("--temperature 0: every completion of a problem would be the same; leave --samples out")
    return prompt, verifier, sampling


def _task_name(arguments, preset: ExperimentConfig | None) -> str:
    name = arguments.task or task_in(arguments.problems) or (preset and preset.task)
    if not name:
        raise SettingsError(
            f"--task: {arguments.problems} does not say which task its problems are for; give --task or --config"
        )
    return name
