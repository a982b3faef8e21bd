"""A run's folder, read: its event log, what its end has left, and what the lead has of the sites.

The sites' files are on this machine where the run was simulated or in a proof of concept, and only there. What cannot
be read is noted, and the rest is read.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedrlvr.data.problems import lines_in, problems_in
from fedrlvr.json_text import JsonError, from_json
from fedrlvr.launch import prepared_run
from fedrlvr.launch.prepared_run import DRY_RUN, RUN_FILE, PreparedRun
from fedrlvr.peft_folder import read_origin
from fedrlvr.printable import one_line
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.report.outgoing import spent
from fedrlvr.report.page.events import Log, Seconds, log_of, read_log
from fedrlvr.report.page.swaps import NO_LABEL, Swap
from fedrlvr.settings_file import load_settings
from fedrlvr.site_config import COMPLETIONS
from fedrlvr.types import Problem

SUMMARY, JOB_ID = "summary.json", "job_id"
MOST_SAID = 300  # characters of an error


class Left(BaseModel):
    """What a run's end has left in its summary, and nobody can find out later."""

    class Took(BaseModel):
        wall: Seconds

    model_config = ConfigDict(strict=True, extra="ignore")
    seconds: Took
    versions: dict[str, str | None]
    base_model: str | None = None
    test_sha256: str = ""


class _Entry(BaseModel):
    """A line of an egress log, as far as it is shown."""

    model_config = ConfigDict(strict=True, extra="allow")
    job: str
    kind: str
    decision: str
    reason: str = ""
    count: Annotated[int, Field(ge=0)] = 0
    bytes: Annotated[int, Field(ge=0)] = 0
    rules: dict[str, object] = {}


@dataclass(frozen=True)
class SiteRecords:
    """What the lead has of one site; `sent` and `spent` None where it has no log, which `why` says. `private` are its
    problems by label."""

    private: Counter[str] = field(default_factory=Counter)
    swaps: list[Swap] = field(default_factory=list)
    has_log: bool = False  # of completions, and so of swaps
    sent: list[dict] | None = None
    spent: list[str] | None = None
    why: str = ""


@dataclass(frozen=True)
class RunFiles:
    name: str
    log: Log
    prepared: PreparedRun | None = None
    left: Left | None = None
    public: dict[str, Problem] = field(default_factory=dict)
    sites: dict[str, SiteRecords] = field(default_factory=dict)  # those whose files are here
    notes: list[str] = field(default_factory=list)
    fingerprint: str | None = None  # of the base model, as beside the adapter


def read_run(folder: Path, prepared: PreparedRun | None = None) -> RunFiles:
    """`prepared` is the run, where it has only just ended. Raises NoEvents where the folder is no run's, OSError and
    ProblemFileError where its event log cannot be read."""
    log, notes = read_log(log_of(folder)), []
    prepared = prepared or _kept(_prepared, folder, notes)
    public = _kept(_public, folder, notes) or {}
    sites = {}
    for name in prepared.sites if prepared else ():
        if _is_name(name) and (found := _kept(lambda where, name=name: _site(where, prepared, name), folder, notes)):
            sites[name] = found
    left = _kept(_left, folder, notes)
    if prepared and prepared.dry_run:
        notes.append(f"This was a dry run (--tiny). {DRY_RUN}")
    origin = _kept(lambda where: read_origin(where / "adapter"), folder, notes)
    fingerprint = origin and origin.fingerprint
    return RunFiles(folder.resolve().name, log, prepared, left, public, sites, log.notes() + notes, fingerprint)


def _kept(read, folder: Path, notes: list[str]):
    """What `read` finds in the folder; None where it is not there, or cannot be read, which is noted."""
    try:
        return read(folder)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        notes.append(f"Not all could be read: {_said(error)}")
        return None


def _said(error: Exception) -> str:
    return one_line(str(error))[:MOST_SAID]


def _prepared(folder: Path) -> PreparedRun:
    if not (folder / RUN_FILE).exists():
        raise FileNotFoundError(folder / RUN_FILE)
    return prepared_run.read_run(folder)


def _object(path: Path) -> dict:
    try:
        value = from_json(path.read_bytes())
    except JsonError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name}: expected an object")
    return value


def _left(folder: Path) -> Left:
    try:
        return Left.model_validate(_object(folder / SUMMARY))
    except ValidationError:
        raise ValueError(f"{SUMMARY}: not the summary of a run of this version") from None


def _public(folder: Path) -> dict[str, Problem]:
    path = folder / "data" / "public.jsonl"
    if not path.exists():
        raise FileNotFoundError(path)
    return {problem.id: problem for _, problem in problems_in(path)}


def _labels(path: Path) -> Counter[str]:
    return Counter(problem.label or NO_LABEL for _, problem in problems_in(path)) if path.is_file() else Counter()


def _is_name(site: str) -> bool:
    """Whether the site's name cannot lead out of the folder."""
    return Path(site).name == site and site not in ("", ".", "..")


def _site(folder: Path, prepared: PreparedRun, name: str) -> SiteRecords:
    """A simulated site's folder lies in the run's, wherever that is now. One of a proof of concept is where it was."""
    simulated = prepared.environment in ("local", "sim")
    state = folder / "sites" / name if simulated else prepared.sites[name].state_dir
    swaps = _swaps(state, name, prepared.spec.run)
    found = {"swaps": swaps or [], "has_log": swaps is not None, "private": _labels(folder / "data" / f"{name}.jsonl")}
    policy_file = state / "policy.yaml" if simulated else state.parent.parent / "policy.yaml"
    if not policy_file.is_file():
        return SiteRecords(**found, why="it has no policy, and so no log of what left it")
    try:
        policy = load_settings(SitePolicy, policy_file)
        log = EgressLog(policy.log)
        sent = [_entry(entry) for entry in log.entries()] if policy.log.exists() else []
        if not simulated:
            sent = [entry for entry in sent if entry["job"] == _job_id(folder)]
        return SiteRecords(**found, sent=sent, spent=spent(policy, log.last_ledger()))
    except (OSError, ValueError) as error:
        return SiteRecords(**found, why=_said(error))


def _job_id(folder: Path) -> str:
    path = folder / JOB_ID
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def _entry(entry: dict) -> dict:
    try:
        return _Entry.model_validate(entry).model_dump()
    except ValidationError:
        raise ValueError("the site's egress log holds a line of another form") from None


def _swaps(state: Path, site: str, run: str) -> list[Swap] | None:
    """The swaps that the site's log of completions has of this run. None where there is no such log. A line that is
    cut, as the worker was killed, is no swap; the page says how many of all swaps the logs have."""
    files = [path for path in (state / f"{COMPLETIONS}.1", state / COMPLETIONS) if path.is_file()]
    lines = (line for _, line in chain.from_iterable(map(lines_in, files)))
    return [swap for swap in _parsed(lines, site) if swap.run == run] if files else None


def _parsed(lines: Iterator[bytes], site: str) -> Iterator[Swap]:
    for line in lines:
        if b'"origin"' in line:
            try:
                yield Swap.model_validate(from_json(line)).model_copy(update={"receiver": site})
            except (JsonError, ValidationError):
                continue
