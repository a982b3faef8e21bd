"""What a worker is told when it starts, and what it says when it is ready."""

from typing import Literal, Protocol

from pydantic import Field

from fedrlvr.protocol.answers import Failure, Fingerprint, Reply
from fedrlvr.protocol.records import AdapterSpec, Count
from fedrlvr.protocol.requests import Request
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.protocol.strict import Strict
from fedrlvr.site_config import SiteConfig
from fedrlvr.types import Adapter


class SetUp(Strict):
    """`base_model` is the fingerprint of this site's model; with `recover` the worker goes on from its newest
    checkpoint of this run; with `propose_from` global it samples answers from the adapter that the server sent;
    `draws_key` is mixed into all draws of this site ("": they follow from the job's seed alone)."""

    spec: RunSpec
    site: str
    site_config: SiteConfig
    base_model: Fingerprint
    propose_from: Literal["local", "global"] = "local"
    draws_key: str = ""
    recover: bool = False


class Ready(Strict):
    """The adapter's names and shapes, how many private problems there are to train on, how many of each set are too
    long for the model, how many rounds are done, and the hash of the ledger's last line as the newest checkpoint knew
    it ("" for nothing)."""

    adapter_spec: AdapterSpec
    private_problems: int
    too_long: dict[str, int] = Field({})
    rounds_done: Count
    ledger: str


class Worker(Protocol):
    """A site's worker as its job process sees it: another process (`Supervisor`), or the same (`InProcessWorker`)."""

    @property
    def running(self) -> bool:
        """Whether it is set up and can be asked."""

    def start(self) -> Ready | Failure:
        """Start it and set it up. Once it was lost, the next one goes on from the last checkpoint of the same run."""

    def ask(self, request: Request, tensors: Adapter | None = None, ledger: str = "") -> Reply:
        """Send one request and wait for its answer."""

    def stop(self, grace: float = 0.0) -> None:
        """End it; with `grace` seconds it may save its adapter first."""
