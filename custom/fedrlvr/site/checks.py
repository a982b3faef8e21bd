"""Checks of a site before a job comes: versions, machine, DeepSpeed, problems."""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

import torch
from packaging.requirements import Requirement

from fedrlvr.config import JobConfig
from fedrlvr.data.manifest import check_set, read_manifest
from fedrlvr.data.problems import ProblemFileError, read_problems, read_records
from fedrlvr.learning.engine import read_deepspeed_config, zero_stage
from fedrlvr.learning.prompt_length import limit_in
from fedrlvr.privacy.adapter_release import loose_delta
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.shipped import CONSTRAINTS
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import own_package, task_named
from fedrlvr.version import installed

GIB = 2**30
LEAST_DISK = 1 * GIB


@dataclass(frozen=True)
class Finding:
    """One line of `fedrlvr doctor`. `status` is ok, warning or failed; `remedy` says what to do about it."""

    about: str
    status: str
    text: str
    remedy: str = ""


def check_versions(constraints: Path | None) -> Iterator[Finding]:
    """This package's requirements and, if a constraints file is given, the tested versions."""
    yield Finding("python", "ok", platform.python_version())  # pip installs this package on no older one
    wrong = dict(_unfit_packages())
    remedy = f"pip install -c {constraints or CONSTRAINTS} {' '.join(wrong)}"
    yield Finding("packages", "failed" if wrong else "ok", ", ".join(wrong.values()) or "as required", remedy)
    if constraints is not None:
        pins = re.findall(r"^([\w.-]+)==(\S+)", constraints.read_text(), re.MULTILINE)
        found = [(name, pin, installed(name)) for name, pin in pins]
        # A local build tag (2.13.0+cpu, +cu130) is the same release.
        other = {n: f"{n} {v} (tested {p})" for n, p, v in found if v is not None and p not in (v, v.split("+")[0])}
        remedy = f"pip install -c {constraints} {' '.join(other)}"
        yield Finding("tested pins", "warning" if other else "ok", ", ".join(other.values()) or "the same", remedy)


def _unfit_packages() -> Iterator[tuple[str, str]]:
    """What to give to pip, and what is wrong."""
    if installed("fedrlvr") is None:
        yield "WHEEL", "fedrlvr missing, which names the others"
        return
    for requirement in map(Requirement, requires("fedrlvr") or ()):
        found = installed(requirement.name)
        fits = found is not None and requirement.specifier.contains(found, prereleases=True)
        if not requirement.marker and not fits:
            needed = f"{requirement.name} {found or 'missing'} (needs {requirement.specifier or 'any'})"
            yield requirement.name, needed


def check_machine(config: SiteConfig) -> Iterator[Finding]:
    """GPUs, and disk space."""
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = ", ".join(f"{gpu.name} {gpu.total_memory / GIB:.0f} GiB" for gpu in gpus) or "none"
    absent = config.device != "cpu" and any(number >= len(gpus) for number in config.gpus or ())
    missing = absent or (config.device == "cuda" and not gpus)
    remedy = "set device: cpu, name GPUs that are there, or install torch for your driver"
    yield Finding("gpus", "failed" if missing else "ok", names, remedy)
    state = next(p for p in (config.state_dir, *config.state_dir.parents) if p.exists())
    free = shutil.disk_usage(state).free
    writable = state.is_dir() and os.access(state, os.W_OK)
    text = f"{free / GIB:.1f} GiB free for {config.state_dir}" + ("" if writable else ", which cannot be written")
    fine = writable and free >= LEAST_DISK
    yield Finding("disk", "ok" if fine else "failed", text, f"state_dir needs {LEAST_DISK // GIB} GiB to write to")


def check_deepspeed(config: SiteConfig) -> Finding:
    """How DeepSpeed will run here. Raises ValueError as `read_deepspeed_config`."""
    stage = zero_stage(read_deepspeed_config(config.deepspeed_config))
    gpu = torch.cuda.is_available() and config.device != "cpu"
    ranks = f"{config.processes} ranks under torchrun" if config.processes > 1 else "one rank"
    if config.worker.launch is not None:
        ranks = f"started by {config.worker.launch.split()[0]}"
    backend = "nccl on GPU" if gpu else "gloo on CPU, nothing is compiled"
    return Finding("deepspeed", "ok", f"ZeRO {stage}, {ranks}, {backend}, {config.dtype}")


def check_extras(config: SiteConfig, job: JobConfig, policy: SitePolicy | None) -> Finding:
    """Packages that not every site needs, but this one with this job and policy."""
    needed = {}  # module -> (what needs it, what installs it)
    if policy and policy.responses.share and policy.responses.presidio:
        needed["presidio_analyzer"] = ("responses.presidio", "presidio-analyzer")
    if policy and job.privacy.mode == "dp_grpo":
        needed["dp_accounting"] = ("privacy.mode: dp_grpo", "dp-accounting")
    if config.load_in_4bit:
        needed["bitsandbytes"] = ("load_in_4bit", "bitsandbytes")
    if config.attn_implementation == "flash_attention_2":
        needed["flash_attn"] = ("attn_implementation: flash_attention_2", "flash-attn")
    missing = {why: package for module, (why, package) in needed.items() if find_spec(module) is None}
    if missing:
        install = f"pip install {' '.join(missing.values())}"
        return Finding("extras", "failed", f"missing for {', '.join(missing)}", install)
    return Finding("extras", "ok", ", ".join(sorted(needed)) or "none is needed")


def check_length(config: SiteConfig, job: JobConfig) -> Finding:
    """What the model's positions leave for a prompt; the rehearsal looks at every one."""
    length = job.grpo.max_completion_length
    try:
        limit = limit_in(config.model_path, job.grpo)
    except ValueError as error:
        return Finding("length", "failed", str(error))
    return Finding("length", "ok", f"prompts of at most {limit or 'any number of'} tokens, completions of {length}")


def check_problems(config: SiteConfig, job: JobConfig, manifest: Path | None) -> Iterator[Finding]:
    """Every problem file, and whether those that all sites share fit the manifest. Raises ProblemFileError."""
    task = task_named(job.task, job.verifier)
    if package := own_package(task):
        yield Finding("task", "ok", f"{task.name} of {package}; all sites need this one")
    for name in ("private", "public", "test", "heldout"):
        path = getattr(config, f"{name}_problems")
        if path is not None:
            problems = read_problems(path, task)
            labels = len({problem.label for problem in problems})
            yield Finding(name, "ok", f"{len(problems)} {task.name} problems, {labels} labels, golds verified")
    if manifest is None:
        remedy = "give --manifest with the consortium's manifest.json to have public and test set compared"
        yield Finding("manifest", "warning", "not compared", remedy)
    else:
        agreed = read_manifest(manifest)
        check_set(config.public_problems, agreed.public)
        check_set(config.test_problems, agreed.test)
        agreed_on = f"public set as agreed, {agreed.public.sha256[:16]}..., test set {agreed.test.sha256[:16]}..."
        yield Finding("manifest", "ok", agreed_on)


def count_private(config: SiteConfig) -> int:
    """How many private problems the site has. Raises ProblemFileError."""
    return sum(1 for _ in read_records(config.private_problems))


def check_delta(config: SiteConfig, policy: SitePolicy) -> Finding:
    """Whether the delta of DP-GRPO fits the number of private problems."""
    try:
        problems = count_private(config)
    except ProblemFileError as error:
        return Finding("delta", "warning", f"not compared with the number of private problems: {error}")
    if warning := loose_delta(policy.training, problems):
        return Finding("delta", "warning", warning, "set a smaller training.delta in the policy")
    return Finding("delta", "ok", f"{policy.training.delta:g} is below 1 / {problems} private problems")
