"""The measurement of `fedrlvr evaluate`, once its arguments are checked: results, table, and some completions."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from accelerate.utils.memory import should_reduce_batch_size
from rich.progress import Progress

from fedrlvr.algorithms.scores import scores_with_intervals
from fedrlvr.commands.evaluate import Sampling
from fedrlvr.config import PromptSettings
from fedrlvr.data.problems import manifest_hash
from fedrlvr.json_text import from_json
from fedrlvr.learning.build import choose_device
from fedrlvr.learning.evaluation import CompletionsFile, ResultsFile, measure, result_of
from fedrlvr.learning.finite import NotFinite
from fedrlvr.learning.model import Policy, load_trained
from fedrlvr.learning.prompt_length import check_prompts, count_too_long, in_words, prompt_limit
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.report.screen import Screen
from fedrlvr.report.table import print_scores
from fedrlvr.settings_file import SettingsError
from fedrlvr.site.fingerprint import other_base, weights_fingerprint
from fedrlvr.site_config import COMPLETIONS, LocalModel
from fedrlvr.tasks import Task
from fedrlvr.types import Problem

PARTS = 4  # as many completions as fit into memory so many times are sampled before results are written: the last rows
# of each part have no others to wait for


def evaluate_model(
    arguments: argparse.Namespace,
    settings: LocalModel,
    task: Task,
    prompt: PromptSettings,
    problems: Sequence[Problem],
    sampling: Sampling,
    ks: Sequence[int],
) -> int:
    """Measure what is not yet in `--out`, and show all of it. Raises SettingsError."""
    console, adapter = Screen(), arguments.adapter
    if adapter and (warning := other_base(adapter, arguments.model)):
        Screen(stderr=True).print(f"warning: {warning}", soft_wrap=True)
    file = ResultsFile(arguments.out / "results.jsonl", _measured(arguments, task, prompt, problems, sampling))
    if any(problem.id not in file.done for problem in problems):
        policy = load_trained(settings, adapter, prompt, choose_device(settings))
        _measure(policy, task, problems, file, arguments, sampling)
    scores = scores_with_intervals([file.done[problem.id] for problem in problems], ks)
    result = file.settings | {"scores": scores}
    (arguments.out / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    about = f"{arguments.model.name}{' + ' + adapter.name if adapter else ''}, {task.name}"
    print_scores(scores, ks, f"{about}, {sampling.in_words(arguments.samples)}", console)
    _show(arguments.out / COMPLETIONS, problems, task, arguments.show, console)
    for name in ("evaluation.json", COMPLETIONS):
        console.print(f"{name}: {arguments.out / name}", soft_wrap=True)
    return 0


def _measured(arguments, task: Task, prompt: PromptSettings, problems, sampling: Sampling) -> dict:
    """What makes this measurement another one than that of other settings."""
    return {
        "model": weights_fingerprint(arguments.model),
        "adapter": arguments.adapter and weights_fingerprint(arguments.adapter),
        "problems": manifest_hash(problems),
        "task": task.name,
        "samples": arguments.samples,
        **sampling.model_dump(),
        "seed": arguments.seed,
        "dtype": arguments.dtype,
        "prompt": prompt.model_dump(mode="json"),
        "verifier": task.settings.model_dump(mode="json"),
    }


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


def _show(path: Path, problems: Sequence[Problem], task: Task, count: int, console: Screen) -> None:
    """Print so many completions: the first one of each problem in turn, then the second ones, and so on."""
    if not count:
        return
    asked, turns = {problem.id: problem for problem in problems}, dict.fromkeys((p.id for p in problems), 0)
    found = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        made = from_json(line)
        if made["problem_id"] in asked:
            found.append((turns[made["problem_id"]], made))
            turns[made["problem_id"]] += 1
    for _, made in sorted(found, key=lambda one: one[0])[:count]:
        problem = asked[made["problem_id"]]
        shown = "\n".join(message.content for message in problem.messages) or task.question(problem)
        console.rule(f"{problem.id}: {_verdict(made)}", align="left")
        console.print(f"problem:    {shown}\nanswer:     {problem.answer}\ncompletion: {made['text']}", soft_wrap=True)


def _verdict(made: dict) -> str:
    """In words: of part of a reward how much, and the verifier's reason where it says more."""
    reward = made["reward"]
    verdict = "right" if reward >= 1 else f"reward {reward:g}" if reward > 0 else "wrong"
    more = [made["reason"]] if made["reason"] != verdict else []
    more += ["cut off"] if made["truncated"] else []
    return f"{verdict} ({', '.join(more)})" if more else verdict
