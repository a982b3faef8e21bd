"""An adapter's model card, `README.md`, as the hub reads it: metadata, then what a stranger has to know of it.

Names of models and labels come from others: they stand in code spans, and the metadata is written by the YAML library.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.algorithms.scores import Scores, merge_scores, wilson_interval
from fedrlvr.config import JobConfig
from fedrlvr.launch.prepared_run import DRY_RUN
from fedrlvr.learning.vllm_server import RANKS
from fedrlvr.peft_folder import Origin
from fedrlvr.printable import one_line, printable
from fedrlvr.report.cells import size
from fedrlvr.report.learning import nothing_learnt
from fedrlvr.report.summary import MEASURED_ON, evaluations, merged_test
from fedrlvr.task_package import TaskPackage
from fedrlvr.tasks import task_named

MOST_LABELS = 20  # rows of the table of scores
TAGS = ("lora", "transformers", "grpo", "rlvr", "federated-learning", "nvflare", "fedrlvr")


@dataclass(frozen=True)
class Release:
    """An adapter of a run: after which round, counted from 0, and its scores on the test set, if there are any."""

    job: JobConfig
    origin: Origin
    license: str
    dry_run: bool
    summary: dict
    task_package: TaskPackage | None  # None: the task is one of ours
    round: int
    best: bool = False  # the best round's; else the last one's
    scores: Scores | None = None
    samples: int = 0


def scores_of(events: Sequence[dict], number: int, site: str | None) -> tuple[Scores | None, int]:
    """Scores on the test set after this round, and completions of each problem: of the average, or of a site's own
    adapter."""
    found = [e for e in evaluations(events, "local" if site else "global") if e["round"] == number]
    if not found or (site and site not in found[-1]["scores"]):
        return None, 0
    last = found[-1]
    return merge_scores([last["scores"][site]["test"]]) if site else merged_test(last), last["samples"]


def model_card(release: Release) -> str:
    parts = (_what, _evaluation, _prompt, _use, _privacy, _limits, _made_with)
    sections = ("\n".join(part(release)) for part in parts)
    return "\n\n".join([f"---\n{_metadata(release)}---", *sections]) + "\n"


def code_span(text: str) -> str:
    """The text as Markdown code on one line: nothing in it is markup."""
    text = one_line(text)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text or not text else f"{fence}{text}{fence}"


def cell(text: str) -> str:
    """The same in a table."""
    return code_span(text).replace("|", "\\|")


def _metadata(release: Release) -> str:
    name = one_line(release.origin.base_model)
    values = {
        "base_model": name,
        "library_name": "peft",
        "license": release.license,
        "pipeline_tag": "text-generation",
        "tags": [f"base_model:adapter:{name}", *TAGS],
    }
    return yaml.safe_dump(values, sort_keys=False)


def _what(release: Release) -> Iterator[str]:
    job, summary, origin = release.job, release.summary, release.origin
    method, sites, package = METHODS[job.method], len(summary["sites"]), release.task_package
    rounds = f"{release.round + 1} of {summary['rounds']}"
    yield f"# A LoRA adapter for {code_span(origin.base_model)}\n"
    yield "Trained by reinforcement learning from verifiable rewards (GRPO), with fedrlvr.\n"
    yield "| | |\n| --- | --- |"
    yield f"| base model | {cell(origin.base_model)}, fingerprint {cell(origin.fingerprint or 'not known')} |"
    yield f"| adapter | LoRA, r {job.lora.r}, alpha {job.lora.alpha:g} |"
    yield f"| task | {cell(job.task)}{f', of {cell(str(package))}' if package else ''} |"
    averaged = f"{_averaged(release)}, averaged by {cell(job.federation.aggregator)}"
    where = averaged if method.average and sites > 1 else "one site, with all problems" if method.pooled_data else ""
    yield f"| method | {cell(job.method)}: {where or f'one of {sites} sites, not averaged'} |"
    last = "the last one" if summary["finished"] else "the last that was completed"
    kept = f"the best round by pass@1 on {MEASURED_ON[summary['best']['measured_on']]}" if release.best else last
    yield f"| round | {rounds}: {kept} |"
    yield f"| seed | {job.seed} |"
    if release.dry_run:
        yield f"\n**This was a dry run** (`--tiny`). {DRY_RUN} At provisioned sites, the base model"
        yield "may have been a small stand-in for the one named here: compare the fingerprint."
    if not summary["finished"]:
        yield "\n**The run did not finish.** This is what it had come to."
    if nothing_learnt(summary["learning"]):
        yield "\n**No site has learnt anything:** the adapter answers as the base model does."


def _averaged(release: Release) -> str:
    """How many sites' changes each average has, up to this adapter's."""
    sites = len(release.summary["sites"])
    counts = [one["sites"] for one in release.summary["averaged"] if one["round"] <= release.round]
    if not counts or min(counts) == sites:
        return f"{sites} sites"
    low, high = min(counts), max(counts)
    return f"{f'{low} to {high}' if low < high else low} of {sites} sites in a round"


def _evaluation(release: Release) -> Iterator[str]:
    yield "## Evaluation\n"
    base = release.summary["base"]
    if not release.scores or not base:
        yield "This adapter was not measured."
        return
    yield "pass@1 on the federation's test set, with 95% intervals (Wilson; each problem counts as one draw)."
    yield f"Completions of each problem: {base['samples']} of the base model, {release.samples} of the adapter.\n"
    yield "| label | problems | base model | this adapter |\n| --- | ---: | ---: | ---: |"
    labels = list(release.scores)[: MOST_LABELS + 1]
    for label in labels if len(release.scores) > 2 else labels[:1]:
        score, before = release.scores[label], base["test"].get(label)
        name = "all" if label == "overall" else cell(label or "(none)")
        count = score["problems"]
        yield f"| {name} | {count:g} | {_with_interval(before, count)} | {_with_interval(score, count)} |"
    if rest := len(release.scores) - len(labels):
        yield f"\n{rest} more labels are left out."
    if release.best and release.summary["best"]["measured_on"] == "test":
        yield "\nThe round was chosen by these scores, so they are a little too high."


def _with_interval(score: dict | None, usual: float) -> str:
    """`usual`: of how many problems, where this need not be said."""
    if score is None:
        return "-"
    mean, count = score["pass@1"], score["problems"]
    low, high = wilson_interval(mean, count)
    return f"{mean:.3f} ({low:.2f}-{high:.2f})" + (f", of {count:g}" if count != usual else "")


def _prompt(release: Release) -> Iterator[str]:
    job = release.job
    given = job.prompt.model_dump(mode="json", exclude_defaults=True)
    instruction = task_named(job.task).instruction if job.prompt.instruction is None else job.prompt.instruction
    shown = given | ({"instruction": instruction} if instruction else {})
    yield "## Prompt\n"
    yield "The model wants the prompt that it was trained with: the base model's chat template, if it has one, around"
    if not shown:
        yield "the text of the problem."
        return
    yield "the text of the problem and the instruction. These are the settings:\n"
    text = printable(yaml.safe_dump({"prompt": shown}, sort_keys=False, allow_unicode=True))
    fence = "`" * max(3, max(map(len, re.findall("`+", text)), default=0) + 1)
    yield f"{fence}yaml\n{text}{fence}\n"
    length = job.grpo.max_completion_length
    yield f"It was sampled with temperature {job.grpo.temperature:g}, at most {length} tokens for an answer."


def _use(release: Release) -> Iterator[str]:
    yield "## Use\n"
    yield "`BASE` is the base model's directory or name, `ADAPTER` this directory. With peft:\n"
    yield "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n"
    yield 'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("BASE"), "ADAPTER")'
    yield 'tokenizer = AutoTokenizer.from_pretrained("BASE")\n```\n'
    yield "With fedrlvr, where `BASE` is a directory: try it, measure it, merge it into a plain model. With the job's"
    yield "preset, as `--config PRESET`, the first two ask as in its training:\n"
    yield "```\nfedrlvr chat --model BASE --adapter ADAPTER --beside-base"
    task = shlex.quote(release.job.task)
    yield f"fedrlvr evaluate --model BASE --adapter ADAPTER --task {task} --problems test.jsonl --out evaluation"
    yield "fedrlvr merge --model BASE --adapter ADAPTER --out MERGED\n```\n"
    rank = next((rank for rank in RANKS if rank >= release.job.lora.r), None)
    if rank is None:
        yield f"vLLM serves adapters of at most rank {RANKS[-1]}: merge this one first."
        return
    yield "Served by vLLM, as the model `fedrlvr`:\n"
    yield f"```\nvllm serve BASE --enable-lora --lora-modules fedrlvr=ADAPTER --max-lora-rank {rank}\n```"


def _privacy(release: Release) -> Iterator[str]:
    job, method, sent = release.job, METHODS[release.job.method], release.summary["bytes"]
    yield "## Privacy\n"
    if method.pooled_data:
        yield "All problems were in one place: nothing was federated."
    else:
        if not method.average:
            yield "* This adapter is one site's own: its change was not sent to be averaged."
        if method.average:
            all_ = size(sent["adapter"]["up"])
            yield f"* After each round that it took part in, a site sent the change of its adapter: {all_} in the run."
        if method.exchange:
            texts = size(sent["responses"]["up"])
            yield f"* Sites sent answers to public problems that they had found right, as texts: {texts} in the run."
        yield "* Sites sent scores and, as far as their policies let them, numbers about steps."
        yield "* Private problems and completions to them were not sent. The adapter may still tell what they say."
    yield _noise(job)


def _noise(job: JobConfig) -> str:
    if job.privacy.mode == "dp_grpo":
        return (
            "* Differential privacy of single problems: every site trained with DP-GRPO, clip norm "
            f"{job.privacy.clip_norm:g}, noise multiplier {job.privacy.noise_multiplier:g}. What epsilon that is "
            "depends on the site's number of problems and its other jobs. It stands in each site's ledger "
            "(`fedrlvr egress show`); whoever wrote this card does not know it."
        )
    return (
        "* The job asked for no noise in training. A site's own policy may have added some to its changes, which "
        "whoever wrote this card does not know. So this card claims no differential privacy, and knows no epsilon."
    )


def _limits(release: Release) -> Iterator[str]:
    yield "## Limits\n"
    yield f"* It was trained and measured on the task {code_span(release.job.task)} alone, not on anything else."
    yield "* A verifier judged final answers. Nothing judged the reasoning before them."
    yield "* It was not examined for safety or bias. What holds of the base model, its license too, holds of it."
    if release.license == "unknown":
        yield "* No license was chosen for the adapter: ask whoever gave it to you."


def _made_with(release: Release) -> Iterator[str]:
    yield "## Versions\n"
    yield ", ".join(f"{name} {version}" for name, version in release.summary["versions"].items() if version)
