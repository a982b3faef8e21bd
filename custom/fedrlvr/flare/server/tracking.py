"""Hands a run's numbers to FLARE's experiment trackers in the job (TensorBoard, MLflow, Weights & Biases), as if each
site had sent them. They are those of the server's event log, which passed the sites' policies: no site sends anything
for this."""

import logging
from collections.abc import Mapping

from nvflare.apis.analytix import ANALYTIC_EVENT_TYPE, AnalyticsDataType
from nvflare.apis.fl_constant import EventScope, FedEventHeader, FLContextKey, ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.utils.analytix_utils import create_analytic_dxo
from nvflare.app_common.widgets.streaming import AnalyticsReceiver

from fedrlvr.server.tracked_numbers import TrackedNumber, TrackedNumbers

LOGGER = logging.getLogger(__name__)
RECEIVED = f"fed.{ANALYTIC_EVENT_TYPE}"  # FLARE's name for such an event when it has come from a site


class Tracking:
    """`hear` takes every event of the run."""

    def __init__(self, fl_ctx: FLContext):
        self._engine, self._numbers = fl_ctx.get_engine(), TrackedNumbers()
        handlers = self._engine.run_manager.get_handlers()
        receivers = {type(handler).__name__ for handler in handlers if isinstance(handler, AnalyticsReceiver)}
        self._wanted = bool(receivers)
        self._at = "_at_" if "MLflowReceiver" in receivers else "@"  # in pass@1: MLflow takes no @ in a name

    def hear(self, event: Mapping) -> None:
        """Never raises: a run does not end for what only shows it."""
        if not self._wanted:
            return
        try:
            for number in self._numbers.of(event):
                self._fire(number)
        except Exception:  # whatever a tracker, or an event of an older log, may raise
            self._wanted = False
            LOGGER.exception("nothing is tracked any more")

    def _fire(self, number: TrackedNumber) -> None:
        dxo = create_analytic_dxo(
            tag=number.name.replace("@", self._at),
            value=number.value,
            data_type=AnalyticsDataType.SCALAR,
            global_step=number.step,
        )
        data = dxo.to_shareable()
        data.set_header(FedEventHeader.DIRECTION, "in")  # or FLARE would send it out to every site
        data.set_peer_props({ReservedKey.IDENTITY_NAME: number.site})
        with self._engine.new_context() as fl_ctx:
            fl_ctx.set_prop(FLContextKey.EVENT_DATA, data, private=True, sticky=False)
            fl_ctx.set_prop(FLContextKey.EVENT_SCOPE, EventScope.FEDERATION, private=True, sticky=False)
            self._engine.fire_event(RECEIVED, fl_ctx)
