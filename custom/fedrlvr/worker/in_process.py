"""A worker in the process of whoever asks it: nothing to start, nothing to kill, and a debugger sees all of it."""

import logging
import os
from bdb import BdbQuit

import torch
from safetensors import SafetensorError

from fedrlvr.learning.ranks import Ranks
from fedrlvr.loading import loading
from fedrlvr.protocol.answers import Failure, Reply
from fedrlvr.protocol.requests import Request
from fedrlvr.types import Adapter
from fedrlvr.worker.launcher import ALONE
from fedrlvr.worker.service import Service
from fedrlvr.worker.setup import Ready, SetUp

LOGGER = logging.getLogger(__name__)
THREADS = torch.get_num_threads()  # PyTorch's own choice, before a run sets 1 for the server's sums


class InProcessWorker:
    """As `Supervisor`, without a second process and without a deadline. It has one rank."""

    def __init__(self, setup: SetUp):
        self._setup = setup
        self._service: Service | None = None

    @property
    def running(self) -> bool:
        return self._service is not None

    def start(self) -> Ready | Failure:
        self.stop()
        os.environ.update(ALONE)  # DeepSpeed asks the environment
        try:
            with loading():
                self._service = Service(self._setup, Ranks())
        except BdbQuit:  # somebody left the debugger
            raise
        except Exception as error:  # whatever it is, the site cannot take part, and says why
            LOGGER.exception("%s: set-up", self._setup.site)
            return Failure.by(error)
        self._setup = self._setup.model_copy(update={"recover": True})
        return self._service.ready

    def ask(self, request: Request, tensors: Adapter | None = None, ledger: str = "") -> Reply:
        if self._service is None:
            return Failure.of("the worker is not running"), None
        torch.set_num_threads(self._setup.site_config.threads or THREADS)
        try:
            return self._service.answer(request, tensors, ledger)
        except BdbQuit:
            raise
        except Exception as error:  # whatever went wrong is the answer to this one request
            LOGGER.exception("%s: %s", self._setup.site, request.task)
            if not self._service.may_go_on(request, error):
                self.stop()
            return Failure.by(error), None

    def stop(self, grace: float = 0.0) -> None:
        service, self._service = self._service, None
        if service is None:
            return
        try:
            service.close(save=grace > 0)
        except (OSError, ValueError, SafetensorError):  # as a worker process would, it ends without its adapter
            LOGGER.exception("%s: its adapter was not saved", self._setup.site)
