"""What FLARE's experiment trackers are handed, with an engine that keeps the events that are fired."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from nvflare.apis.analytix import AnalyticsData
from nvflare.apis.dxo import from_shareable
from nvflare.apis.fl_constant import EventScope, FedEventHeader, FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.widgets.streaming import AnalyticsReceiver

from fedrlvr.flare.server.tracking import Tracking
from fedrlvr.flare.trackers import check_tracker, settings_of
from fedrlvr.settings_file import SettingsError

START = {"event": "start", "sites": ["north"], "segments": 2, "steps": 2}
MEASURED = {
    "event": "evaluation",
    "which": "local",
    "segment": 1,
    "scores": {"north": {"test": {"A": {"problems": 2.0, "pass@1": 0.5}}}},
}


class Receiver(AnalyticsReceiver):
    def initialize(self, fl_ctx): ...

    def save(self, fl_ctx, shareable, record_origin): ...

    def finalize(self, fl_ctx): ...


class MLflowReceiver(Receiver):
    """Named as FLARE's, which cannot be imported without MLflow."""


class Engine:
    def __init__(self, *handlers):
        self.run_manager = SimpleNamespace(get_handlers=lambda: [*handlers])
        self.fired = []

    def new_context(self):
        return nullcontext(FLContext())

    def fire_event(self, event_type, fl_ctx):
        self.fired.append((event_type, fl_ctx))


def tracking(*handlers) -> tuple[Tracking, Engine]:
    engine = Engine(*handlers)
    return Tracking(SimpleNamespace(get_engine=lambda: engine)), engine


def test_a_number_comes_as_if_its_site_had_sent_it_and_goes_to_no_site():
    tracked, engine = tracking(Receiver())
    tracked.hear(START)
    tracked.hear(MEASURED)
    ((event_type, fl_ctx),) = engine.fired
    assert event_type == "fed.analytix_log_stats"
    assert fl_ctx.get_prop(FLContextKey.EVENT_SCOPE) == EventScope.FEDERATION
    data = fl_ctx.get_prop(FLContextKey.EVENT_DATA)
    assert data.get_header(FedEventHeader.DIRECTION) == "in"
    assert Receiver()._get_record_origin(fl_ctx, data) == "north"
    number = AnalyticsData.from_dxo(from_shareable(data))
    assert (number.tag, number.value, number.step) == ("eval/pass@1", 0.5, 2)


def test_mlflow_gets_names_that_it_takes():
    tracked, engine = tracking(MLflowReceiver(), Receiver())
    tracked.hear(MEASURED)
    data = engine.fired[0][1].get_prop(FLContextKey.EVENT_DATA)
    assert AnalyticsData.from_dxo(from_shareable(data)).tag == "eval/pass_at_1"


def test_without_a_tracker_in_the_job_nothing_is_fired():
    tracked, engine = tracking(object())
    tracked.hear(MEASURED)
    assert engine.fired == []


def test_an_event_that_it_cannot_read_ends_the_tracking_and_not_the_run(caplog):
    tracked, engine = tracking(Receiver())
    tracked.hear({"event": "step"})
    tracked.hear(MEASURED)
    assert engine.fired == []
    assert "nothing is tracked any more" in caplog.text


def test_a_tracker_that_is_not_installed_is_told_before_anything_begins(monkeypatch):
    check_tracker(None)
    check_tracker("tensorboard")
    monkeypatch.setattr("fedrlvr.flare.trackers.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"--track wandb: not installed here.*: pip install wandb"):
        check_tracker("wandb")


def test_trackers_are_told_what_their_own_variables_say(monkeypatch, tmp_path):
    for name in ("MLFLOW_TRACKING_URI", "WANDB_PROJECT", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert settings_of("tensorboard", "demo") == {}
    assert settings_of("mlflow", "demo")["tracking_uri"] is None
    offline = settings_of("wandb", "demo", tmp_path)
    assert (offline["mode"], offline["wandb_args"]["project"], offline["wandb_args"]["dir"]) == (
        "offline",
        "fedrlvr",
        str(tmp_path),
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    monkeypatch.setenv("WANDB_MODE", "online")
    assert settings_of("mlflow", "demo")["tracking_uri"] == "http://tracker:5000"
    assert settings_of("wandb", "demo")["mode"] == "online"
