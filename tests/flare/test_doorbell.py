"""The server's bell: a site that waits comes at once, and none waits for ever."""

import threading

import pytest
from nvflare.apis.fl_constant import ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedrlvr.flare import doorbell
from fedrlvr.flare.doorbell import Doorbell, ring

FOREVER = 600.0


class Engine:
    """A server's and a site's in one: what is sent is heard."""

    def __init__(self):
        self.handlers, self.sent = {}, []

    def register_aux_message_handler(self, topic, handler):
        self.handlers[topic] = handler

    def fire_and_forget_aux_request(self, targets, topic, request, fl_ctx, optional=False):
        self.sent.append((targets, dict(request)))
        if topic in self.handlers:
            self.handlers[topic](topic, request, fl_ctx)


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setattr(doorbell, "LONGEST", FOREVER)
    context, engine = FLContext(), Engine()
    context.get_engine = lambda: engine
    context.set_prop(ReservedKey.RUN_ABORT_SIGNAL, Signal(), private=True, sticky=True)
    yield context
    context.get_run_abort_signal().trigger(True)  # whoever still waits


@pytest.fixture
def bell(context):
    bell = Doorbell(context)
    bell.wait(context)  # the first time a site asks at once
    return bell


def waits(bell: Doorbell, context: FLContext) -> threading.Thread:
    thread = threading.Thread(target=bell.wait, args=[context], daemon=True)
    thread.start()
    thread.join(0.3)
    return thread


def test_a_site_waits_until_the_bell_rings(bell, context):
    site = waits(bell, context)
    assert site.is_alive()
    ring(["site-1"], context)
    site.join(30)
    assert not site.is_alive()
    assert waits(bell, context).is_alive()  # it has come once for it, and waits for the next


def test_a_bell_that_rings_before_the_site_waits_is_heard(bell, context):
    ring(["site-1"], context)
    site = waits(bell, context)
    site.join(30)
    assert not site.is_alive()


def test_a_bell_for_the_task_that_is_done_is_forgotten(bell, context):
    ring(["site-1"], context)
    bell.task_done()
    assert waits(bell, context).is_alive()


def test_without_a_bell_a_site_asks_all_the_same(bell, context, monkeypatch):
    monkeypatch.setattr(doorbell, "LONGEST", 0.0)
    site = waits(bell, context)
    site.join(30)
    assert not site.is_alive()


def test_an_aborted_job_waits_for_no_bell(bell, context):
    site = waits(bell, context)
    context.get_run_abort_signal().trigger(True)
    site.join(30)
    assert not site.is_alive()


def test_the_bell_says_nothing(context):
    ring(["site-1", "site-2"], context)
    assert context.get_engine().sent == [(["site-1", "site-2"], dict(Shareable()))]
