"""A site's worker, started as a job would start it, with its files in a folder that is gone afterwards."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedrlvr.protocol.answers import Answer, Failure
from fedrlvr.protocol.requests import Request
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site_config import SiteConfig
from fedrlvr.types import Adapter
from fedrlvr.worker.setup import Ready, SetUp
from fedrlvr.worker.supervisor import Supervisor

Ask = Callable[..., tuple[Answer, Adapter | None]]  # as `Worker.ask`, but it raises TrialFailed


class TrialFailed(RuntimeError):
    """The worker cannot be started, or cannot do what a job would ask of it; with the end of its log."""


@contextmanager
def trial(spec: RunSpec, config: SiteConfig, propose_from: str = "local") -> Iterator[tuple[Ready, Ask, Path]]:
    """The worker's report, how to ask it, and its state folder. Raises TrialFailed."""
    with tempfile.TemporaryDirectory(prefix="fedrlvr-") as folder:
        elsewhere = config.model_copy(update={"state_dir": Path(folder)})
        own = model_fingerprint(config.model_path)
        setup = SetUp(spec=spec, site="trial", site_config=elsewhere, base_model=own, propose_from=propose_from)
        worker = Supervisor(setup)

        def ask(request: Request, tensors: Adapter | None = None) -> tuple[Answer, Adapter | None]:
            answer, tensors = worker.ask(request, tensors)
            if isinstance(answer, Failure):
                raise TrialFailed(f"{request.task}: {answer.reason}")
            return answer, tensors

        try:
            ready = worker.start()
            if isinstance(ready, Failure):
                raise TrialFailed(ready.reason)
            yield ready, ask, elsewhere.state_dir
        except TrialFailed as error:
            raise TrialFailed("\n  ".join([str(error), *(line[:300] for line in worker.log.last_lines(5))])) from None
        finally:
            worker.stop()
