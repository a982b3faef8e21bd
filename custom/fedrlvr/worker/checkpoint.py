"""What a site keeps on disk, so that the death of its worker costs at most the task that it died in.

One folder for each point of a run holds what the trainer has to know, as safetensors and JSON. It is whole or not
there. No random state is kept, as draws depend on names only (`streams.py`).
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors.torch import load_file

from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.trainer_state import SiteProgress, TrainerState
from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.protocol.records import PublicResponse
from fedrlvr.protocol.strict import as_json
from fedrlvr.run import forget_old_runs
from fedrlvr.sealed_folder import UNFINISHED, BrokenSeal, begin, check_seal, seal, sealed_folders, sweep
from fedrlvr.types import Adapter

LOGGER = logging.getLogger(__name__)
KEPT_ROUNDS, KEPT_NEWEST = 2, 2
START = "start.safetensors"
BEGINNING = "-begins"

Saved = tuple[TrainerState, str]  # what was read back, and the hash of the ledger's last line when it was written


class NotThere(RuntimeError):
    """The worker is not in the round that the request is about, and cannot get there by itself."""


class SiteCheckpoints:
    """The checkpoints of one run, in the folder of its name under `folder`. All ranks call the methods together.

    Checkpoints of another `identity` count as absent. The newest two are kept, and those of the beginnings of the
    last `KEPT_ROUNDS` rounds, at which a run that lost its server begins again. The adapter that a round began with is
    one file on disk, which all checkpoints of the round have in common.
    """

    def __init__(self, folder: Path, run: str, identity: str, ranks: Ranks):
        self.folder, self.identity, self.ranks = folder / run, identity, ranks
        self._lock = FileLock(folder / f"{run}.lock")
        self._start: tuple[Adapter | None, Path] = None, Path()  # what was last written or read as `start`, and where

    def claim(self, patience: float = 60.0) -> None:
        """Lock this run for this worker until its process ends. A job that lost its server may hold it a little longer.
        Raises NotThere where another worker still held it after `patience` seconds."""
        if self.ranks.rank == 0:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(Timeout):
                self._lock.acquire(timeout=patience, poll_interval=0.2)
        if not self.ranks.broadcast(self._lock.is_locked):
            raise NotThere("a worker of an earlier job still works on this run; end that job first")

    def release(self) -> None:
        """Unlock the run for another worker."""
        self._lock.release()

    def save(self, state: TrainerState, ledger: str, beginning_of: int | None = None) -> None:
        """Write `state`; `beginning_of` is the round that is about to begin. Raises OSError where it cannot be written;
        earlier ones are as they were."""
        path = self.folder / _name(state.progress, beginning_of)
        unfinished = path.with_name(path.name + UNFINISHED)
        failed = _attempt(lambda: begin(path)) if self.ranks.rank == 0 else ""
        self.ranks.gather([])  # nobody writes before the folder is there
        failed = failed or _attempt(lambda: self._write(unfinished, state, ledger))
        failed = next(filter(None, self.ranks.gather([failed])), "")
        if self.ranks.rank == 0:
            failed = failed or _attempt(lambda: seal(path))
            sweep(self.folder)
            if not failed:
                self._start = state.start, path / START
                self._forget_after(path)
                self._prune()
        if failed:
            raise OSError(failed)

    def clear(self) -> None:
        """Forget whatever an earlier job of the same name left."""
        if self.ranks.rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    def latest(self) -> Saved | None:
        """The newest checkpoint that is whole; None if there is none."""
        return self._first(reversed(sealed_folders(self.folder)))

    def rewind(self, number: int) -> Saved | None:
        """The state in which round `number` began, before the server's adapter was loaded. Deletes later checkpoints.
        None if there is no such checkpoint."""
        path = self.folder / _name(SiteProgress(), number)
        saved = self._first([path])
        if saved is not None and self.ranks.rank == 0:
            self._forget_after(path)
        return saved

    def _write(self, folder: Path, state: TrainerState, ledger: str) -> None:
        tensors = {f"optimizer-{self.ranks.rank}": state.optimizer}
        if self.ranks.rank == 0:
            tensors["adapter"] = state.adapter
            self._write_start(folder / START, state.start)
            values = {"identity": self.identity, "place": state.progress, "given": state.given, "ledger": ledger}
            values |= {"pool": state.pool, "targets": state.targets, "found": state.found, "unsolved": state.unsolved}
            (folder / "state.json").write_bytes(as_json(values))
        for name, members in tensors.items():
            (folder / f"{name}.safetensors").write_bytes(as_safetensors(members))

    def _write_start(self, path: Path, start: Adapter) -> None:
        known, there = self._start
        if start is known:
            with suppress(OSError):  # a file system without links, or a folder that was deleted
                os.link(there, path)
                return
        path.write_bytes(as_safetensors(start))

    def _first(self, paths: Iterable[Path]) -> Saved | None:
        """The first of these that rank 0 finds whole and of this run; the same on every rank."""
        found = next((str(path) for path in paths if self._usable(path)), None) if self.ranks.rank == 0 else None
        found = self.ranks.broadcast(found)
        if not found:
            return None
        saved = _read(Path(found), self.ranks.rank)
        self._start = saved[0].start, Path(found) / START
        return saved

    def _usable(self, path: Path) -> bool:
        try:
            check_seal(path)
        except BrokenSeal as error:
            if path.exists():
                LOGGER.warning("checkpoint not used: %s", error)
            return False
        same = json.loads((path / "state.json").read_text(encoding="utf-8")).get("identity") == self.identity
        if not same:
            LOGGER.warning(
                "checkpoint not used: %s is of another job, model, lora_rank, number of processes or DeepSpeed stage",
                path,
            )
        return same

    def _forget_after(self, path: Path) -> None:
        """Delete what an earlier attempt at the same round left: its steps no longer count."""
        for later in sealed_folders(self.folder):
            if later.name > path.name:
                shutil.rmtree(later, ignore_errors=True)

    def _prune(self) -> None:
        folders = sealed_folders(self.folder)
        beginnings = [path for path in folders if path.name.endswith(BEGINNING)]
        for path in set(folders[:-KEPT_NEWEST]) - set(beginnings[-KEPT_ROUNDS:]):
            shutil.rmtree(path, ignore_errors=True)
        forget_old_runs(self.folder.parent)


def _read(folder: Path, rank: int) -> Saved:
    values = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    names = ("adapter", "start", f"optimizer-{rank}")
    adapter, start, optimizer = (dict(sorted(load_file(folder / f"{name}.safetensors").items())) for name in names)
    pool = [(site, _response(answer)) for site, answer in values["pool"]]
    found = [_response(answer) for answer in values["found"]]
    progress = SiteProgress(**values["place"])
    notes = {"found": found, "unsolved": values["unsolved"]}
    state = TrainerState(progress, values["given"], adapter, start, optimizer, pool, values["targets"], **notes)
    return state, values["ledger"]


def _response(answer: dict) -> PublicResponse:
    return PublicResponse(**answer | {"logprobs": tuple(answer.get("logprobs", ()))})


def _name(place: SiteProgress, beginning_of: int | None) -> str:
    """Folders' names sort as places do; a round's beginning comes before all else in it."""
    if beginning_of is not None:
        return f"{beginning_of:06d}{BEGINNING}"
    return f"{place.round:06d}-segment-{place.segments:07d}{'-public' if place.public_pending else ''}"


def _attempt(action: Callable[[], object]) -> str:
    """Why it could not be done, or ""."""
    try:
        action()
        return ""
    except OSError as error:
        return str(error)
