"""Every time-out of a job, from the one setting `federation.step_deadline`: ours, and those of FLARE that a job can
set."""

from __future__ import annotations

from dataclasses import dataclass

from fedrlvr.config import JobConfig
from fedrlvr.server.client_manager import Patience


@dataclass(frozen=True)
class Deadlines:
    """Seconds. `step` is what a site's worker may take for one task; all else follows from it."""

    step: float
    start: float

    @classmethod
    def of(cls, job: JobConfig) -> Deadlines:
        return cls(job.federation.step_deadline, job.federation.start_deadline)

    @property
    def grace(self) -> float:
        """How much later than a site's own deadline the server's comes. In that time the site fetches the task, ends
        its worker (a second, where nothing else runs) and sends one small answer. Only then does the server learn the
        reason. 10 s is enough on a machine that is busy, a minute where a network hiccup comes on top."""
        return min(60.0, max(10.0, self.step / 4))

    @property
    def task(self) -> float:
        """How long the server waits for the answer of a site whose worker runs."""
        return self.step + self.grace

    @property
    def first_task(self) -> float:
        """The same where a worker may have to be started first."""
        return self.task + self.start

    @property
    def patience(self) -> Patience:
        """What the server's client manager goes by."""
        return Patience(self.task, self.first_task, self.pickup)

    @property
    def pickup(self) -> float:
        """How long until a site must have come for a task. It asks several times a second while it has none."""
        return min(300.0, max(60.0, self.step))

    @property
    def transfer(self) -> float:
        """How long an adapter may be on its way: enough for a slow line, and not so much that a site whose connection
        broke is away for a whole step."""
        return max(600.0, self.step / 4)

    def server_config(self) -> dict:
        """What goes into the job's config_fed_server.json."""
        # FLARE's default of 2 s between a site's questions for work would be most of a small task's time.
        return {"server": {"task_request_interval": 0.2}, **self._tensors()}

    def client_config(self) -> dict:
        """What goes into the job's config_fed_client.json."""
        return {
            # A question for work that got lost is asked again before the server gives the site up.
            "get_task_timeout": self.pickup / 2,
            # The server fetches the adapter from the site before it says that it has the result.
            "submit_task_result_timeout": self.transfer,
            "task_check_timeout": self.pickup / 10,
            "max_runner_sync_timeout": self.pickup,
            **self._tensors(),
        }

    def _tensors(self) -> dict:
        """A piece that got lost is asked for again before its sender gives the whole up."""
        return {
            "tensor_streaming_per_request_timeout": self.transfer / 2,
            "tensor_min_download_timeout": self.transfer,
        }

    def in_short(self) -> str:
        return (
            f"a site may take {_said(self.task)} for a task, {_said(self.first_task)} where its worker has to start "
            "(federation.step_deadline)"
        )

    def describe(self) -> list[str]:
        """In words, for whoever starts the job."""
        return [
            f"a step: {_said(self.step)} (federation.step_deadline, from which the rest follows)",
            f"a worker's start, its model loaded: {_said(self.start)}",
            f"a task, from the server: {_said(self.task)}; {_said(self.first_task)} where a worker may have to start",
            f"a site comes for a task, or joins the run: {_said(self.pickup)}",
            f"an adapter on its way: {_said(self.transfer)}",
            "set in FLARE at every site: " + ", ".join(f"{n} {v:g}" for n, v in sorted(self.client_config().items())),
        ]


def _said(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 600 else f"{seconds / 60:.4g} min"
