"""Every time-out of a job, ours and FLARE's, from the one setting `federation.step_deadline`."""

from dataclasses import dataclass
from typing import Self

from fedrlvr.config import JobConfig
from fedrlvr.server.client_manager import Patience


@dataclass(frozen=True)
class Deadlines(Patience):
    """The server's patience, and what it follows from."""

    step: float  # what a site's worker may take for one task; all else follows from it
    start: float  # what a worker may take to start
    transfer: float  # how long an adapter may be on its way

    @classmethod
    def of(cls, job: JobConfig) -> Self:
        step, start = job.federation.step_deadline, job.federation.start_deadline
        # The server's deadline comes later than the site's own. In that time the site fetches the task, ends its worker
        # (a second, where nothing else runs) and sends one small answer. Only then does the server learn the reason.
        # 10 s is enough on a machine that is busy, a minute where a network hiccup comes on top.
        task = step + min(60.0, max(10.0, step / 4))
        # Enough for a slow line, and not so much that a site whose connection broke is away for a whole step.
        transfer = max(600.0, step / 4)
        # A site that has no task asks for one every few seconds (`doorbell.py`).
        return cls(task, task + start, min(300.0, max(60.0, step)), step, start, transfer)

    def server_config(self) -> dict:
        """What goes into the job's config_fed_server.json."""
        # FLARE's default is 2 s between a task and a site's question for the next; `doorbell.py` has the site wait.
        return {"server": {"task_request_interval": 0.05}, **self._tensors()}

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

    def describe(self) -> list[str]:
        """In words, for whoever starts the job; the first line says the most."""
        return [
            f"a site may take {_said(self.task)} for a task, {_said(self.first_task)} where its worker has to start "
            "(federation.step_deadline)",
            f"of these, a step: {_said(self.step)}, from which the rest follows; a worker's start: {_said(self.start)}",
            f"a site comes for a task, or joins the run: {_said(self.pickup)}",
            f"an adapter on its way: {_said(self.transfer)}",
            "set in FLARE at every site: " + ", ".join(f"{n} {v:g}" for n, v in sorted(self.client_config().items())),
        ]


def _said(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 600 else f"{seconds / 60:.4g} min"
