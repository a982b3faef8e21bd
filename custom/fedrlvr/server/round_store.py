"""What the server keeps of a run outside of FLARE's job folders, which end with their job: the last completed rounds,
from which another job can go on."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import Field
from safetensors.torch import load_file

from fedrlvr.config import Settings
from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.protocol.refused import Refused
from fedrlvr.run import forget_old_runs
from fedrlvr.sealed_folder import BrokenSeal, begin, check_seal, seal, sealed_folders, sweep
from fedrlvr.server.event_log import EVENTS_FILE
from fedrlvr.settings_file import load_settings
from fedrlvr.types import Adapter

KEPT_ROUNDS = 2
MOMENTS_FILE = "moments.safetensors"


class ServerConfig(Settings):
    """The server's own `local/fedrlvr.yaml`, if it has one. Relative paths are taken from the folder of that file."""

    state_dir: Path = Field(description="Where the server keeps the last rounds of each run.")


@dataclass(frozen=True)
class CompletedRound:
    """`events` is the event log up to then, `receipts` the last one of each site, `moments` those of the server's
    optimizer; `skipped` says which newer rounds could not be used, and why."""

    number: int
    adapter: Adapter
    events: Path
    skipped: list[str]
    receipts: dict[str, str]
    moments: dict[str, torch.Tensor] = field(default_factory=dict)


class RoundStore:
    """The last rounds of one run, each a sealed folder."""

    def __init__(self, state_dir: Path, run: str, identity: str):
        self.folder, self.identity = state_dir / run, identity

    def open(self) -> None:
        """Raises OSError if rounds cannot be kept here: better now than after hours of work."""
        begin(self.folder / "probe").rmdir()

    def save(
        self,
        number: int,
        adapter: Adapter,
        events: Path,
        receipts: Mapping[str, str],
        moments: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Keep round `number`. Raises OSError if it cannot be written; earlier rounds are not changed then."""
        path = self.folder / f"round-{number:06d}"
        try:
            unfinished = begin(path)
            (unfinished / "adapter.safetensors").write_bytes(as_safetensors(adapter))
            if moments:
                (unfinished / MOMENTS_FILE).write_bytes(as_safetensors(moments))
            shutil.copyfile(events, unfinished / EVENTS_FILE)
            about = {"identity": self.identity, "round": number, "receipts": dict(receipts)}
            (unfinished / "round.json").write_text(json.dumps(about))
            seal(path)
        finally:
            sweep(self.folder)
        for old in sealed_folders(self.folder)[:-KEPT_ROUNDS]:
            shutil.rmtree(old, ignore_errors=True)
        forget_old_runs(self.folder.parent)

    def clear(self) -> None:
        """Forget whatever an earlier job of the same name left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def latest(self) -> CompletedRound | None:
        """The newest round that is whole; None if there is none. Raises Refused where the kept rounds are of a run with
        other settings or another public set."""
        skipped: list[str] = []
        for path in reversed(sealed_folders(self.folder)):
            try:
                check_seal(path)
            except BrokenSeal as reason:
                skipped.append(str(reason))
                continue
            kept = json.loads((path / "round.json").read_text())
            if kept.get("identity") != self.identity:
                raise Refused(
                    f"run {self.folder.name} was of a job with other settings or another public set: when a run is "
                    "resumed, only rounds, quorum, deadline, max_update_norm and evaluation may change"
                )
            adapter = dict(sorted(load_file(path / "adapter.safetensors").items()))
            moments = load_file(path / MOMENTS_FILE) if (path / MOMENTS_FILE).exists() else {}
            receipts = kept.get("receipts", {})
            return CompletedRound(kept["round"], adapter, path / EVENTS_FILE, skipped, receipts, moments)
        return None


def runs_folder(root: Path) -> Path:
    """Where the server with this FLARE workspace keeps its runs: as its own file says, else in the workspace. Raises
    SettingsError."""
    for name in ("fedrlvr.server.yaml", "fedrlvr.yaml"):
        path = root / "local" / name
        if path.is_file():
            return load_settings(ServerConfig, path).state_dir
    return root / "fedrlvr"
