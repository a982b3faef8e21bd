"""`fedrlvr evaluate`: pass@k of a model, with or without an adapter, on a problem file.

Each problem's result is written to disk as soon as it is known. The same command continues an interrupted measurement.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import transformers
from accelerate.utils.memory import should_reduce_batch_size
from rich.progress import Progress

from fedrlvr.algorithms.scores import scores_with_intervals
from fedrlvr.config import GrpoSettings, PromptSettings, VerifierSettings
from fedrlvr.data.problems import manifest_hash, read_problems, task_in
from fedrlvr.launch.experiment import load_experiment
from fedrlvr.learning.build import check_prompts, choose_device
from fedrlvr.learning.evaluation import ResultsFile, measure, result_of
from fedrlvr.learning.model import DTYPES, Policy, load_trained
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.report.screen import Screen
from fedrlvr.report.table import print_scores
from fedrlvr.settings_file import SettingsError, validate_settings
from fedrlvr.site.fingerprint import weights_fingerprint
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import Task, task_named
from fedrlvr.types import Group

PARTS = 4  # as many completions as fit into memory so many times are sampled before results are written: the last rows
# of each part have no others to wait for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a Hugging Face directory")
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="a PEFT directory, such as a run's adapter/")
    parser.add_argument("--problems", type=Path, required=True, metavar="FILE", help="JSON Lines, such as test.jsonl")
    parser.add_argument("--task", help="default: the task that the problems name")
    parser.add_argument("--samples", type=int, default=1, help="completions per problem (default: %(default)s)")
    parser.add_argument("--k", default="1", help="pass@k for these k, as in 1,8 (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for results; a run continues here")
    parser.add_argument(
        "--completions", type=Path, metavar="FILE", help="append every completion: JSON Lines with text"
    )
    parser.add_argument("--config", type=Path, metavar="PRESET", help="takes prompt, verifier and sampling from it")
    parser.add_argument("--temperature", type=float, help="default: the preset's, or 1")
    parser.add_argument("--max-completion-length", type=int, help="in tokens; default: the preset's, or 256")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--batch-size", type=int, help="completions at once; default: as many as fit into memory")


def run(arguments: argparse.Namespace) -> int:
    transformers.utils.logging.disable_progress_bar()
    console = Screen()
    ks = _ks(arguments)
    prompt, verifier, sampling = _job_part(arguments)
    if arguments.batch_size is not None and arguments.batch_size < 1:
        raise SettingsError(f"--batch-size {arguments.batch_size}: expected 1 or more")
    task = task_named(_task_name(arguments), verifier)
    problems = read_problems(arguments.problems, task)
    settings = LocalModel(model_path=arguments.model, device=arguments.device, dtype=arguments.dtype)
    settings.check_model()
    adapter = arguments.adapter
    file = ResultsFile(
        arguments.out / "results.jsonl",
        {
            "model": weights_fingerprint(arguments.model),
            "adapter": adapter and weights_fingerprint(adapter),
            "problems": manifest_hash(problems),
            "task": task.name,
            "samples": arguments.samples,
            "temperature": sampling.temperature,
            "max_completion_length": sampling.max_completion_length,
            "seed": arguments.seed,
            "dtype": arguments.dtype,
            "prompt": prompt.model_dump(mode="json"),
            "verifier": verifier.model_dump(mode="json"),
        },
    )
    if any(problem.id not in file.done for problem in problems):
        policy = load_trained(settings, adapter, prompt, choose_device(settings))
        _measure(policy, task, problems, file, arguments, sampling)
    scores = scores_with_intervals([file.done[problem.id] for problem in problems], ks, arguments.seed)
    result = file.settings | {"scores": scores}
    (arguments.out / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    print_scores(scores, ks, f"{arguments.model.name}{' + ' + adapter.name if adapter else ''}, {task.name}", console)
    console.print(f"evaluation.json: {arguments.out / 'evaluation.json'}", soft_wrap=True)
    return 0


def _measure(policy: Policy, task: Task, problems, file: ResultsFile, arguments, sampling: GrpoSettings) -> None:
    length = sampling.max_completion_length
    longest = check_prompts(arguments.problems.name, problems, policy, task, length)
    sampler = CachedSampler(policy, arguments.batch_size)
    rows = PARTS * sampler.rows_that_fit(longest + length)
    rollouts = Rollouts(policy, sampler, task, Ranks(), length, sampling.temperature)
    left = [problem for problem in problems if problem.id not in file.done]
    with file, Progress(console=Screen(stderr=True), transient=True) as progress:
        bar = progress.add_task("problems", total=len(left))
        try:
            for part in measure(rollouts, left, arguments.samples, arguments.seed, rows):
                file.write([result_of(group) for group in part])
                _append(arguments.completions, part)
                progress.advance(bar, len(part))
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            raise SettingsError(
                "a single completion does not fit into memory; choose --dtype bfloat16 or a smaller "
                "--max-completion-length; earlier results are kept"
            ) from None


def _append(path: Path | None, groups: Sequence[Group]) -> None:
    if path is not None:
        lines = [{"problem_id": group.problem.id, "text": made.text} for group in groups for made in group.completions]
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


def _ks(arguments) -> list[int]:
    try:
        ks = sorted({int(k) for k in arguments.k.split(",")})
    except ValueError:
        raise SettingsError(f"--k {arguments.k}: expected whole numbers separated by commas, as in 1,8") from None
    if not 1 <= ks[0] <= ks[-1] <= arguments.samples:
        raise SettingsError(f"--k {arguments.k}: pass@k needs 1 <= k <= --samples, which is {arguments.samples}")
    return ks


def _job_part(arguments) -> tuple[PromptSettings, VerifierSettings, GrpoSettings]:
    """Prompt, verifier and sampling: from the flags, else from the preset, else the defaults."""
    prompt, verifier, grpo = PromptSettings(), VerifierSettings(), GrpoSettings()
    if arguments.config is not None:
        preset = load_experiment(arguments.config)
        prompt, verifier, grpo = preset.prompt, preset.verifier, preset.grpo
    flags = {name: getattr(arguments, name) for name in ("temperature", "max_completion_length")}
    given = {name: value for name, value in flags.items() if value is not None}
    return prompt, verifier, validate_settings(GrpoSettings, grpo.model_dump() | given, "evaluate")


def _task_name(arguments) -> str:
    name = arguments.task or task_in(arguments.problems)
    if name is None:
        raise SettingsError(f"--task: {arguments.problems} does not say which task its problems are for; give --task")
    return name
