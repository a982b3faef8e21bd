"""`fedrlvr evaluate`: pass@k of a model, with or without an adapter, on a problem file.

Each problem's result is written to disk as soon as it is known. The same command continues an interrupted measurement.
"""

import argparse
import json
import warnings
from pathlib import Path

import transformers
from accelerate.utils.memory import should_reduce_batch_size
from pydantic import Field
from rich.progress import Progress

from fedrlvr.algorithms.scores import scores_with_intervals
from fedrlvr.config import GrpoSettings, PromptSettings, Settings, VerifierSettings
from fedrlvr.data.problems import manifest_hash, read_problems, task_in
from fedrlvr.launch.experiment import load_experiment
from fedrlvr.learning.build import choose_device
from fedrlvr.learning.evaluation import CompletionsFile, ResultsFile, measure, result_of
from fedrlvr.learning.finite import NotFinite
from fedrlvr.learning.model import DTYPES, Policy, load_trained
from fedrlvr.learning.prompt_length import check_prompts, count_too_long, in_words, prompt_limit
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.report.screen import Screen
from fedrlvr.report.table import print_scores
from fedrlvr.settings_file import SettingsError, validate_settings
from fedrlvr.site.fingerprint import weights_fingerprint
from fedrlvr.site_config import COMPLETIONS, LocalModel
from fedrlvr.tasks import Task, task_named

PARTS = 4  # as many completions as fit into memory so many times are sampled before results are written: the last rows
# of each part have no others to wait for


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
    parser.add_argument("--config", type=Path, metavar="PRESET", help="takes prompt, verifier and sampling from it")
    parser.add_argument("--temperature", type=float, help="0: the likeliest token; default: the preset's, or 1")
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="only the likeliest tokens of this probability together"
    )
    parser.add_argument("--max-completion-length", type=int, help="in tokens; default: the preset's, or 256")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--batch-size", type=int, help="completions at once; default: as many as fit into memory")


def run(arguments: argparse.Namespace) -> int:
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)  # what libraries tell each other's programmers
    console = Screen()
    ks = _ks(arguments)
    name = _task_name(arguments)
    prompt, verifier, sampling = _job_part(arguments, name)
    if arguments.out.exists() and not arguments.out.is_dir():
        raise SettingsError(f"--out {arguments.out}: is a file; choose a folder")
    if arguments.batch_size is not None and arguments.batch_size < 1:
        raise SettingsError(f"--batch-size {arguments.batch_size}: expected 1 or more")
    task = task_named(name, verifier, prompt)
    problems = read_problems(arguments.problems, task)
    settings = LocalModel(model_path=arguments.model, device=arguments.device, dtype=arguments.dtype)
    settings.check_model()
    adapter = arguments.adapter
    measured = {
        "model": weights_fingerprint(arguments.model),
        "adapter": adapter and weights_fingerprint(adapter),
        "problems": manifest_hash(problems),
        "task": task.name,
        "samples": arguments.samples,
        **sampling.model_dump(),
        "seed": arguments.seed,
        "dtype": arguments.dtype,
        "prompt": prompt.model_dump(mode="json"),
        "verifier": verifier.model_dump(mode="json"),
    }
    file = ResultsFile(arguments.out / "results.jsonl", measured)
    if any(problem.id not in file.done for problem in problems):
        policy = load_trained(settings, adapter, prompt, choose_device(settings))
        _measure(policy, task, problems, file, arguments, sampling)
    scores = scores_with_intervals([file.done[problem.id] for problem in problems], ks)
    result = file.settings | {"scores": scores}
    (arguments.out / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    about = f"{arguments.model.name}{' + ' + adapter.name if adapter else ''}, {task.name}"
    print_scores(scores, ks, f"{about}, {sampling.in_words(arguments.samples)}", console)
    for name in ("evaluation.json", COMPLETIONS):
        console.print(f"{name}: {arguments.out / name}", soft_wrap=True)
    return 0


def _measure(policy: Policy, task: Task, problems, file: ResultsFile, arguments, sampling: Sampling) -> None:
    length = sampling.max_completion_length
    limit, name = prompt_limit(policy.max_length, sampling), arguments.problems.name
    lengths = check_prompts(name, problems, policy, task)
    if count_too_long(name, lengths, limit):
        Screen(stderr=True).print(in_words(name, lengths, limit, "count as not solved"), soft_wrap=True)
    sampler = CachedSampler(policy, arguments.batch_size, sampling.top_p)
    rows = PARTS * sampler.rows_that_fit(min(max(lengths), limit or max(lengths)) + length)
    rollouts = Rollouts(policy, sampler, task, Ranks(), length, sampling.temperature, limit)
    left = [problem for problem in problems if problem.id not in file.done]
    with (
        file,
        CompletionsFile(arguments.out / COMPLETIONS, file.done) as completions,
        Progress(console=Screen(stderr=True), transient=True) as progress,
    ):
        bar = progress.add_task("problems", total=len(left))
        try:
            for part in measure(rollouts, left, arguments.samples, arguments.seed, rows):
                completions.write(part)
                file.write([result_of(group) for group in part])
                progress.advance(bar, len(part))
        except NotFinite as error:
            raise SettingsError(f"{arguments.adapter or arguments.model}: {error}") from None
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            raise SettingsError(
                "a single completion does not fit into memory; choose --dtype bfloat16 or a smaller "
                "--max-completion-length; earlier results are kept"
            ) from None


def _ks(arguments) -> list[int]:
    try:
        ks = sorted({int(k) for k in arguments.k.split(",")})
    except ValueError:
        raise SettingsError(f"--k {arguments.k}: expected whole numbers separated by commas, as in 1,8") from None
    if not 1 <= ks[0] <= ks[-1] <= arguments.samples:
        raise SettingsError(f"--k {arguments.k}: pass@k needs 1 <= k <= --samples, which is {arguments.samples}")
    return ks


def _job_part(arguments, task: str) -> tuple[PromptSettings, VerifierSettings, Sampling]:
    """Prompt, verifier and sampling: from the flags, else from the preset, else the defaults. Raises SettingsError for
    a preset of another task."""
    prompt, verifier, grpo = PromptSettings(), VerifierSettings(), GrpoSettings()
    if arguments.config is not None:
        preset = load_experiment(arguments.config)
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


def _task_name(arguments) -> str:
    name = arguments.task or task_in(arguments.problems)
    if name is None:
        raise SettingsError(f"--task: {arguments.problems} does not say which task its problems are for; give --task")
    return name
