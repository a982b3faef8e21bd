"""What one process sends, the other receives: records as text, tensors bit for bit."""

import pickle
from dataclasses import replace
from multiprocessing import Pipe
from threading import Thread

import pytest
import torch

from fedrlvr.worker.wire import ANSWER, FAILURE, SET_UP, STOP, Frame, receive, send

TENSORS = {"a": torch.tensor([[0.1, -0.0], [float("nan"), 3e38]]), "b": torch.arange(6.0).reshape(2, 3)}


@pytest.fixture
def passed():
    """passed(frame) -> the frame as it arrives."""
    here, there = Pipe()

    def carry(frame: Frame) -> Frame:
        sending = Thread(target=send, args=(here, frame), daemon=True)  # a long one waits for its reader
        sending.start()
        arrived = receive(there)
        sending.join()
        assert not there.poll(0), "something is left of the frame"
        return arrived

    yield carry
    here.close()
    there.close()


@pytest.mark.parametrize(
    "frame",
    [
        Frame(STOP),
        Frame(SET_UP, '{"site": "Zürich \\u0000 \\ud83d"}'),
        Frame("train", "{}", ledger="ab" * 32),
        Frame(FAILURE, "no\nmore 😀", broken=True),
        Frame(ANSWER, "x" * 2**21),
    ],
    ids=["stop", "escapes", "ledger", "broken", "long"],
)
def test_every_field_arrives_as_it_was(passed, frame):
    assert passed(frame) == frame


def test_no_tensors_and_an_empty_set_of_them_are_told_apart(passed):
    assert passed(Frame(ANSWER)).tensors is None
    assert passed(Frame(ANSWER, tensors={})).tensors == {}


def test_tensors_arrive_bit_for_bit_in_the_order_of_their_names(passed):
    sent = Frame("train", "{}", dict(reversed(TENSORS.items())), "paid")
    arrived = passed(sent)
    assert list(arrived.tensors) == ["a", "b"]
    for name, tensor in TENSORS.items():
        assert arrived.tensors[name].numpy().tobytes() == tensor.numpy().tobytes()
        assert (arrived.tensors[name].dtype, arrived.tensors[name].shape) == (tensor.dtype, tensor.shape)
    assert replace(arrived, tensors=None) == replace(sent, tensors=None)


def test_a_transposed_tensor_is_sent_as_it_is_seen(passed):
    assert torch.equal(passed(Frame(ANSWER, tensors={"t": TENSORS["b"].T})).tensors["t"], TENSORS["b"].T)


def test_frames_follow_each_other_in_both_directions():
    here, there = Pipe()
    frames = [Frame("train", "1", TENSORS), Frame("submit", "2"), Frame("validate", "3", {})]
    for frame in frames:
        send(here, frame)
    for frame in frames:
        arrived = receive(there)
        assert (arrived.kind, arrived.body) == (frame.kind, frame.body)
        send(there, Frame(ANSWER, arrived.body))
    assert [receive(here).body for _ in frames] == ["1", "2", "3"]


def test_the_other_sides_end_is_an_end():
    here, there = Pipe()
    here.close()
    with pytest.raises(EOFError):
        receive(there)


def test_a_pickle_is_not_loaded():
    here, there = Pipe()
    here.send_bytes(pickle.dumps(Frame(STOP)))
    with pytest.raises(ValueError):
        receive(there)
