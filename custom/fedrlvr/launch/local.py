"""A whole run in this process: `--env local`. No FLARE, no worker process; a debugger and a profiler see everything.

This is the method from top to bottom. The server (`server/rounds.py`) holds the averaged adapter and who takes part.
Each site's agent (`site/agent.py`) holds the site's files, its gate and its worker; the worker (`worker/service.py`)
holds the trainer, which holds the policy, its optimizer and the pool of others' answers (`learning/trainer.py`).

    Server.run                             LocalTransport.send                  SiteAgent.answer
      Rounds.run                             the request, as JSON and back  ->    check, pay, Worker.ask
        for each round:                                                             Service.answer
          for each phase:                                                             Trainer.train
            train, then propose and swap     the answer, as JSON and back   <-        Trainer.propose
          submit -> average -> save            through the site's gate                Trainer.swap
          validate                                                                    Trainer.submit, .validate

Nobody waits for anybody: `send` returns when the site has answered, and the next site is asked then. So sites work one
after the other, in the order of their names, where FLARE has them work side by side. Every draw comes from named
streams, and sums run in the order of the sites, so both end in the same bytes; a test holds that.

What FLARE would add is missing here, too: no site can die alone, and nothing has a deadline.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

import torch

from fedrlvr.protocol.answers import Reply
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.protocol.strict import M
from fedrlvr.run import Hear, claim, log_to, server_folder_of, set_aside
from fedrlvr.server.client_manager import Message, Patience, RealTime, Transport
from fedrlvr.server.serve import Server
from fedrlvr.site.agent import SiteAgent
from fedrlvr.site_config import SiteConfig
from fedrlvr.worker.in_process import InProcessWorker
from fedrlvr.worker.setup import SetUp, Worker


@dataclass(frozen=True)
class LocalTask:
    """A `PendingTask` that is over as soon as it is there."""

    reply: Callable[[], Reply]
    fetched = True
    ended = "answered"
    site_died = False


class LocalTransport(RealTime):
    """A `Transport` that calls the site's agent."""

    aborted = False

    def __init__(self, agents: Mapping[str, SiteAgent]):
        self._agents = agents
        self.sites = sorted(agents)

    def send(self, site: str, message: Message, timeout: float, changed: Callable[[], None]) -> LocalTask:
        agent, task = self._agents[site], message.request.task
        answer, tensors = agent.answer(_as_sent(message.request), message.adapter)
        if agent.egress is not None:
            answer, tensors = agent.egress.release(task, answer, tensors)
        torch.set_num_threads(1)  # the server's sums run in one fixed order, whatever the site's worker uses
        reply = _as_sent(answer), tensors
        return LocalTask(lambda: reply)

    def withdraw(self, task: LocalTask) -> None:
        """Every task was fetched."""

    def is_gone(self, site: str) -> bool:
        return False


def _as_sent(record: M) -> M:
    """The record after its way through JSON and the contract's checks."""
    return type(record).model_validate_json(record.model_dump_json())


class LocalRun:
    """One run under `folder`: `local/` has the sites' files and the server's, `local.log` what their workers say."""

    def __init__(
        self,
        folder: Path,
        spec: RunSpec,
        sites: Mapping[str, SiteConfig],
        new_worker: Callable[[SetUp], Worker] = InProcessWorker,
        new_transport: Callable[[Mapping[str, SiteAgent]], Transport] = LocalTransport,
        start_from: Path | None = None,
    ):
        """A run to go on with is one that was under `folder`. `new_worker` and `new_transport` are for tests and
        experiments."""
        if spec.job.federation.pace == "own" and new_transport is LocalTransport:
            raise ValueError(
                "federation.pace: own needs sites that work side by side; in one process they take turns: use --env sim"
            )
        self._claim = claim(folder)
        home = folder / "local"
        set_aside(home)
        for name, config in sites.items():
            config.write(home / f"fedrlvr.{name}.yaml")
        self.log_path, self.server_folder = folder / "local.log", server_folder_of(folder, "local", spec.job.name)
        self._runs, self._spec, self._finished = folder / "server", spec, False
        self._start_from = start_from
        self._agents = {name: SiteAgent(spec, name, "local", home, new_worker) for name in sites}
        self._transport = new_transport(self._agents)
        self._end_log = log_to(self.log_path, "fedrlvr", logging.INFO)

    def run(self, hear: Hear) -> None:
        """As `Run`."""
        patience = Patience(inf, inf, inf)
        where = self.server_folder, lambda: self._runs, self._transport
        server = Server(self._spec, *where, patience, hear, start_from=self._start_from)
        torch.set_num_threads(1)
        try:
            server.run()
            self._finished = True
        finally:
            server.close()

    def close(self) -> None:
        """End the workers; those of a run that finished leave their adapters in their sites' state folders."""
        for agent in self._agents.values():
            agent.stop(grace=float(self._finished))
        self._end_log()
        self._claim.lock.release()
