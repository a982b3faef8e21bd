"""Set up a federation of hospitals on this machine, run a job and stop everything. Kits are provisioned with mutual
TLS, the package is installed from its wheel, server and hospitals are set up by `fedrlvr site init` with policy
clinical, a job is followed live, and a job that brings its own code is refused. Exit code 1 if anything is not as
expected.

python poc/rehearse.py                                # two to three minutes; everything in workspace/rehearsal
python poc/rehearse.py --set federation.rounds=1      # any setting of app_configs/demo.yaml
"""

import argparse
import json
import logging
import os
import shutil
import site
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import transformers
from rich.text import Text

from fedrlvr.data.manifest import SHARED_SETS
from fedrlvr.flare.deploy.deployment import Deployment
from fedrlvr.flare.deploy.project import LOOPBACK, free_port, is_free, provision
from fedrlvr.flare.lead.session import FlareSession, open_kit
from fedrlvr.launch.experiment import ExperimentConfig, load_experiment
from fedrlvr.launch.simulated import synthetic_task
from fedrlvr.launch.submitted import deal_labels
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.report.screen import Screen
from fedrlvr.settings_file import SettingsError
from fedrlvr.tasks import Task, task_named
from fedrlvr.tiny.base_model import base_model
from fedrlvr.tiny.generated import write_generated, write_manifest

ROOT = Path(__file__).resolve().parents[1]
PRESET = ROOT / "app_configs" / "demo.yaml"
HOSPITALS = ["hospital-a", "hospital-b"]
CLEAN = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}  # use the wheel, not the sources


class NotAsExpected(Exception):
    """A step's result differs from what is expected; the message says how."""


def expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise NotAsExpected(otherwise)


def lend_packages(python: Path, folders: Sequence[str]) -> None:
    """Let the virtual environment of `python` import what is installed in `folders`, after its own packages. That takes
    no minutes, as installing the same again would. An editable install in one of the folders stays behind: it works by
    a .pth file there, and Python reads such files only in an environment's own folder."""
    (own,) = python.parents[1].glob("lib/python*/site-packages")
    (own / "lent.pth").write_text("".join(f"{folder}\n" for folder in folders))


class Rehearsal:
    """The steps in order. Each returns the sentence that is printed."""

    def __init__(self, out: Path, settings: list[str], port: int | None, console: Screen):
        self.out, self.port, self.console = out, port, console
        self.settings = [*settings, f"federation.min_sites={len(HOSPITALS)}"]
        self.experiment: ExperimentConfig = deal_labels(
            load_experiment(PRESET, self.settings), HOSPITALS, lambda text: None
        )
        self.consortium, self.environment = out / "consortium", out / "environment"
        self.deployment: Deployment | None = None

    def provisioned(self) -> str:
        kits = provision(ROOT / "poc" / "project.yml", self.out / "kits", LOOPBACK, free_port(self.port), HOSPITALS)
        python = self.environment / "bin" / "python3"
        self.deployment = Deployment(self.out / "kits" / "project.yml", self.out / "kits", python, CLEAN)
        return f"{len(list(kits.iterdir()))} startup kits, mutual TLS, port {self.deployment.port} on loopback"

    def wheel_installed(self) -> str:
        source = self.out / "source"  # a copy: building leaves files behind
        source.mkdir()
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        shutil.copytree(ROOT / "custom", source / "custom", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        self._run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", self.out / "wheels", source)
        shutil.rmtree(source)
        (wheel,) = (self.out / "wheels").glob("*.whl")
        python = self.environment / "bin" / "python"
        self._run(sys.executable, "-m", "venv", "--without-pip", self.environment)
        pip = (sys.executable, "-m", "pip", "--python", python)
        self._run(*pip, "install", "-q", "--no-deps", "--no-index", wheel)
        lend_packages(python, site.getsitepackages())
        self._run(*pip, "check")  # what the wheel requires is there, in versions that it allows
        place = self._run(python, "-c", "import fedrlvr; print(fedrlvr.__file__)").strip()
        expect(place.startswith(str(self.environment)), f"the package is loaded from {place}, not from the wheel")
        return f"{wheel.name} ({wheel.stat().st_size / 1000:.0f} kB) in a virtual environment of its own"

    def set_up(self) -> str:
        """Run for every participant, in its own folder, the command that it would use itself."""
        task = task_named(self.experiment.task, self.experiment.verifier)
        private = self.out / "private"
        write_generated(self.experiment.data, synthetic_task(task), self.experiment.seed, private)
        self._share(private, task)
        model = base_model(task, synthetic_task(task), self.experiment.base_model, self.out / "models")
        for name in HOSPITALS:
            kit = self.deployment.kit(name)
            shutil.copytree(model, kit / "model")
            shutil.copytree(self.consortium, kit / "data")
            for file in (f"{name}.jsonl", f"{name}.heldout.jsonl"):
                shutil.move(private / file, kit / "data")
            places = ["--model-path", kit / "model", "--data", kit / "data", "--state-dir", kit / "state"]
            settings = ["--model", self.experiment.model, *places, "--device", "cpu", "--threads", 1]
            self._fedrlvr("site", "init", kit / "local", "--policy", "clinical", *settings)
        self._fedrlvr("site", "init", self.deployment.kit(LOOPBACK) / "local", "--server")
        return f"policy clinical, jobs may bring no code; each hospital has its own problems and a copy of {model.name}"

    def _share(self, private: Path, task: Task) -> None:
        """Move the sets that all share out of `private`, and write their manifest."""
        self.consortium.mkdir()
        for name in SHARED_SETS:
            shutil.move(private / f"{name}.jsonl", self.consortium)
        write_manifest(self.consortium, task, self.experiment.seed)

    def checked_up(self) -> str:
        findings = ""
        for name in HOSPITALS:
            kit = self.deployment.kit(name)
            places = ["--site-config", kit / "local" / "fedrlvr.yaml", "--manifest", kit / "data" / "manifest.json"]
            findings += self._fedrlvr("doctor", *places, "--config", PRESET)
        good, warnings = (sum(line.startswith(what) for line in findings.splitlines()) for what in ("ok ", "warning "))
        return f"{good} findings are ok, {warnings} are warnings; each hospital is ready"

    def started(self) -> str:
        self.deployment.start()
        return f"server and {', '.join(HOSPITALS)} registered"

    def job_run(self) -> str:
        lead = self.deployment.kit(self.deployment.lead)
        command = [self.environment / "bin" / "python", ROOT / "jobs" / "demo" / "job.py", "--env", "prod"]
        command += ["--kit", lead, "--data", self.consortium, "--workspace", self.out]
        for setting in self.settings:
            command += ["--set", setting]
        live = self._follow(command)
        (folder,) = self.out.glob("demo-*")
        summary = json.loads((folder / "summary.json").read_text())
        expect(summary["finished"] and summary["sites"] == HOSPITALS, "the run did not finish at both hospitals")
        expect(summary["failures"] == [], f"failures: {summary['failures']}")
        expect((folder / "adapter" / "adapter_model.safetensors").exists(), "the lead has no adapter")
        expect(live, "no progress was shown before the run ended")
        released = 0
        for name in HOSPITALS:
            entries = list(EgressLog(self.deployment.kit(name) / "local" / "fedrlvr-egress.jsonl").entries())
            expect({e["kind"] for e in entries} >= {"metrics", "adapter"}, f"{name}'s log does not say what left")
            released += len(entries)
        final = summary["final"]["test"]["overall"]["pass@1"]
        return f"adapter received, pass@1 {final:.2f}; {live} lines of progress; {released} entries in hospitals' logs"

    def code_refused(self) -> str:
        (folder,) = self.out.glob("demo-*")
        job = self.out / "byoc" / "demo"
        shutil.copytree(folder / "flare" / "job" / "demo", job, ignore=shutil.ignore_patterns(".__nvfl*"))
        (job / "app" / "custom").mkdir()
        (job / "app" / "custom" / "extra.py").write_text("PROBLEMS = None\n")
        connect = open_kit(self.deployment.kit(self.deployment.lead))
        with closing(FlareSession(connect, self.out / "byoc" / "flare.log")) as session:
            number = session.call("not accepted", lambda flare: flare.submit_job(str(job)))
            wait = {"timeout": 120, "poll_interval": 0.5}
            meta = session.call("no end of the job", lambda flare: flare.wait_for_job(number, **wait))
        details = meta.get("job_deploy_detail") or []
        expect(meta["status"] != "FINISHED:COMPLETED", f"a job that brings its own code ran: {meta['status']}")
        for name in HOSPITALS:
            refusal = [text for text in details if text.startswith(f"{name}: ") and "BYOC" in text]
            expect(refusal, f"{name} did not refuse the job for its code: {details}")
        return f'{meta["status"]}; "{details[-1]}"' if len(details) == 1 else "; ".join(details)

    def stopped(self) -> str:
        forced = self.deployment.stop()
        expect(not forced, f"{forced} processes had to be killed")
        expect(not self.deployment.processes(), "processes are left")
        expect(is_free(self.deployment.port), f"port {self.deployment.port} is still in use")
        return "no process and no port left"

    def _fedrlvr(self, *arguments: object) -> str:
        return self._run(self.environment / "bin" / "fedrlvr", *arguments)

    def _run(self, *command: object) -> str:
        done = subprocess.run([str(part) for part in command], env=CLEAN, capture_output=True, text=True, check=False)
        output = (done.stderr or done.stdout)[-800:]
        expect(done.returncode == 0, f"{Path(str(command[0])).name} ended with {done.returncode}: {output}")
        return done.stdout

    def _follow(self, command: list) -> int:
        """Run the command and show its output; returns how many lines of progress it printed."""
        live, pipe = 0, {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen([str(part) for part in command], **pipe, env=CLEAN | {"PYTHONUNBUFFERED": "1"}) as job:
            for text in job.stdout:
                live += text.startswith("round ")
                self.console.print(f"    {text.rstrip()}", style="dim", soft_wrap=True)
        expect(job.returncode == 0, f"the job ended with code {job.returncode}")
        return live


STEPS: list[tuple[str, Callable[[Rehearsal], str]]] = [
    ("provision", Rehearsal.provisioned),
    ("install the wheel", Rehearsal.wheel_installed),
    ("fedrlvr site init", Rehearsal.set_up),
    ("fedrlvr doctor", Rehearsal.checked_up),
    ("start", Rehearsal.started),
    ("submit, follow, download", Rehearsal.job_run),
    ("submit code", Rehearsal.code_refused),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting of the demo; may be repeated",
    )
    parser.add_argument(
        "--workspace", type=Path, default=Path("workspace/rehearsal"), help="a new folder (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 8002 on")
    args = parser.parse_args()
    out, console = args.workspace.resolve(), Screen()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    if out.exists():
        parser.error(f"--workspace: {out} exists already; results of an earlier rehearsal are never overwritten")
    try:
        rehearsal = Rehearsal(out, args.set, args.port, console)
    except SettingsError as error:
        parser.error(str(error))
    out.mkdir(parents=True)
    return rehearse(rehearsal, console)


def rehearse(rehearsal: Rehearsal, console: Screen) -> int:
    """Take the steps until one is not as expected. In any case stop what was started."""
    began, failed = time.monotonic(), False
    try:
        for name, step in STEPS:
            if not _step(name, lambda step=step: step(rehearsal), console):
                failed = True
                break
    except KeyboardInterrupt:
        failed = True
    finally:
        if rehearsal.deployment is not None:
            failed |= not _step("stop", rehearsal.stopped, console)
    what = ("not as expected", "bold red") if failed else ("as expected", "bold green")
    rest = f", {time.monotonic() - began:.0f} s; everything is in {rehearsal.out}"
    console.print(Text.assemble("\n", what, rest), soft_wrap=True)
    return int(failed)


def _step(name: str, act: Callable[[], str], console: Screen) -> bool:
    console.print(name, style="bold")
    began = time.monotonic()
    try:
        result, mark = act(), ("✓", "green")
    except (NotAsExpected, ValueError, OSError, RuntimeError) as error:
        result, mark = str(error), ("✗", "red")
    console.print(Text.assemble("  ", mark, f" {time.monotonic() - began:6.1f} s  {result}"), soft_wrap=True)
    return mark[1] == "green"


if __name__ == "__main__":
    raise SystemExit(main())
