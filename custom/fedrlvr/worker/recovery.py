"""Where a worker is in its run, and how it gets to where the server's next request needs it."""

import logging
from dataclasses import dataclass

from fedrlvr.learning.trainer import Trainer
from fedrlvr.types import Adapter
from fedrlvr.worker.checkpoint import NotThere, SiteCheckpoints

LOGGER = logging.getLogger(__name__)


@dataclass
class Recovery:
    """`ledger` is the hash of the site's ledger that the newest checkpoint knew ("" for none)."""

    trainer: Trainer
    checkpoints: SiteCheckpoints
    ledger: str = ""

    def recover(self) -> None:
        """Load the newest checkpoint, if there is one."""
        saved = self.checkpoints.latest()
        if saved is not None:
            state, self.ledger = saved
            self.trainer.restore(state)
            LOGGER.info("goes on from a checkpoint: %s", state.progress)

    def enter_round(self, number: int, begins: bool, adapter: Adapter | None, ledger: str) -> None:
        """Start round `number`, or continue it if it is already under way. A worker that knows nothing of it starts it
        from `adapter`. Raises NotThere where what that needs is missing."""
        trainer = self.trainer
        if not begins and trainer.progress.round == number:
            return
        if trainer.progress.round >= number:
            self._rewind(number, adapter)
        if adapter is None and (trainer.progress.round < 0 or (trainer.method.average and not begins)):
            raise NotThere(f"the worker knows nothing of round {number} and was sent no adapter to begin it from")
        self.keep(ledger, beginning_of=number)
        has_its_own = not trainer.method.average and trainer.progress.round >= 0
        trainer.begin_round(None if has_its_own else adapter, number)

    def expect_round(self, number: int) -> None:
        """Raises NotThere if the worker is in another round, because its answer would be about another adapter."""
        here = self.trainer.progress.round
        if here != number:
            known = f"it is in round {here}" if here >= 0 else "it is in none"
            raise NotThere(f"the worker has nothing of round {number} ({known}); it goes on with the next segment")

    def keep(self, ledger: str, beginning_of: int | None = None) -> bool:
        """Save the trainer's state; False where it cannot be written. A full disk must not cost the work that is done:
        the log says so, and the earlier checkpoint stays the newest."""
        try:
            self.checkpoints.save(self.trainer.state(), ledger, beginning_of)
            return True
        except OSError as error:
            LOGGER.error("checkpoint not written, the one before is kept: %s", error)
            return False

    def _rewind(self, number: int, adapter: Adapter | None) -> None:
        saved = self.checkpoints.rewind(number)
        if saved is not None:
            state, _ = saved
            self.trainer.restore(state)
        elif adapter is None:
            raise NotThere(f"the checkpoint of the beginning of round {number} is gone, and no adapter came instead")
        else:
            LOGGER.warning("no checkpoint of the beginning of round %s: from its adapter alone", number)
