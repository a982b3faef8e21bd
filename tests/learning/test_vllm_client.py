"""What is believed of a server's answers, and what is said when it gives none."""

import json
import logging
import socket
import ssl
import subprocess
import threading
from types import SimpleNamespace

import pytest
from tests.learning.stand_in_server import StandInServer

from fedrlvr.learning.vllm_client import RolloutServerError, VllmClient, Wanted
from fedrlvr.site_config import VllmSettings

WANTED = Wanted(2, 3, 0.7, 5, (1, 2), 10)
CHOICES = [
    {"index": 0, "token_ids": [4, 5, 6], "logprobs": {"token_logprobs": [-0.5, -1.0, -1.5]}},
    {"index": 1, "token_ids": [4, 2], "logprobs": {"token_logprobs": [-0.25, -0.75]}},
]


@pytest.fixture
def server():
    """Whose completions are `server.choices`."""
    server = StandInServer(SimpleNamespace())
    server.choices = json.loads(json.dumps(CHOICES))
    server._choices = lambda body: server.choices
    yield server
    server.close()


@pytest.fixture
def client(server):
    client = VllmClient(server.url, VllmSettings())
    yield client
    client.close()


def test_completions_come_as_they_were_asked_for(server, client):
    server.choices.reverse()
    first, second = client.complete("base", (7, 8), WANTED)
    assert (first.token_ids, first.logprobs, first.truncated) == ((4, 5, 6), (-0.5, -1.0, -1.5), True)
    assert (second.token_ids, second.logprobs, second.truncated) == ((4, 2), (-0.25, -0.75), False)
    assert (first.entropy, second.entropy) == (1.0, 0.5)
    (asked,) = server.bodies("/v1/completions")
    wanted = {"model": "base", "prompt": [7, 8], "n": 2, "max_tokens": 3, "temperature": 0.7, "seed": 5, "logprobs": 0}
    assert asked.items() >= (wanted | {"stop_token_ids": [1, 2], "ignore_eos": True, "top_p": 1.0, "top_k": 0}).items()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"token_ids": []}, "completion 0 has 0 tokens with 3 log-probabilities"),
        ({"token_ids": [], "logprobs": {"token_logprobs": []}}, "0 tokens, without an end token, of at most 3"),
        ({"token_ids": [4, 5]}, "2 tokens with 3 log-probabilities"),
        ({"token_ids": [4, 5], "logprobs": {"token_logprobs": [-1.0, -1.0]}}, "2 tokens, without an end token"),
        ({"token_ids": [4, 5, 6, 7], "logprobs": {"token_logprobs": [-1.0] * 4}}, "4 tokens, without an end token"),
        ({"token_ids": [4, 5, 6, 2], "logprobs": {"token_logprobs": [-1.0] * 4}}, "4 tokens, with an end token"),
        ({"token_ids": [4, 5, 10]}, "a token that is none of the model's 10"),
        ({"token_ids": [4, -1, 6]}, "a token that is none of the model's 10"),
        ({"token_ids": [4, 1, 6]}, "an end token in its middle"),
        ({"token_ids": [4, 5.0, 6]}, "choices.0.token_ids.1: Input should be a valid integer"),
        ({"token_ids": ["4", 5, 6]}, "choices.0.token_ids.0: Input should be a valid integer"),
        ({"token_ids": None}, "choices.0.token_ids: Input should be a valid list"),
        ({"logprobs": None}, "choices.0.logprobs: Input should be a valid dictionary"),
        ({"logprobs": {"token_logprobs": [-1.0, None, -1.0]}}, "token_logprobs.1: Input should be a valid number"),
        ({"logprobs": {"token_logprobs": [-1.0, float("nan"), -1.0]}}, "NaN is no JSON number"),
        ({"logprobs": {"token_logprobs": [-1.0, float("-inf"), -1.0]}}, "-Infinity is no JSON number"),
        ({"logprobs": {"token_logprobs": [-1.0, 0.5, -1.0]}}, "less than or equal to 0.0001"),
        ({"index": 1}, "2 came where each of 2 completions was asked for"),
    ],
)
def test_a_completion_that_is_none_is_refused_without_being_quoted(server, client, change, said):
    server.choices[0] |= change | {"text": "Patient 4711"}
    with pytest.raises(RolloutServerError) as caught:
        client.complete("base", (7, 8), WANTED)
    assert said in str(caught.value)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_completions(server, client, count):
    server.choices = [CHOICES[0] | {"index": i} for i in range(count)]
    with pytest.raises(RolloutServerError, match=f"{count} came where each of 2 completions was asked for"):
        client.complete("base", (7,), WANTED)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((200, b"<html>"), "an answer that cannot be used: not valid JSON"),
        ((200, b"\xff"), "an answer that cannot be used: cannot be read as UTF-8"),
        ((200, b"[]"), "an answer that cannot be used: : Input should be"),
        ((200, b"[" * 100_000), "an answer that cannot be used: JSON that cannot be read (nested too deeply)"),
        ((200, b" " * (2**20 + 4096 * 2 * 4 + 1)), "/v1/completions answered more than 1,081,344 bytes"),
        ((404, b"who is Patient 4711"), "/v1/completions answered 404; this worker's log has the server's words"),
        ((302, b""), "/v1/completions answered 302"),
        ((500, b""), "/v1/completions answered 500"),
    ],
)
def test_an_answer_that_is_none(server, client, caplog, reply, said):
    server.spoil = lambda path, body, good: reply
    with pytest.raises(RolloutServerError) as caught:
        client.complete("base", (7,), WANTED)
    assert said in str(caught.value)
    assert "4711" not in str(caught.value)
    assert ("4711" in caplog.text) == (b"4711" in reply[1])  # the site's own log


def test_a_server_that_hangs(server):
    client, going_on = VllmClient(server.url, VllmSettings(request_timeout=0.3)), threading.Event()
    server.spoil = lambda path, body, good: going_on.wait(30) and good
    with pytest.raises(RolloutServerError, match=r"/v1/completions gave no answer within 0.3 s"):
        client.complete("base", (7,), WANTED)
    going_on.set()
    client.close()


def test_a_server_that_answers_a_byte_now_and_then_is_given_up_too():
    """Each byte comes in time; the whole answer does not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def dribble():
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not ended.wait(0.05):
                connection.sendall(b" ")

        threading.Thread(target=dribble, daemon=True).start()
        port = listener.getsockname()[1]
        client = VllmClient(f"http://127.0.0.1:{port}", VllmSettings(request_timeout=0.5))
        with pytest.raises(RolloutServerError, match=r"gave no answer within 0.5 s"):
            client.complete("base", (7,), WANTED)
        ended.set()
        client.close()


def test_a_server_that_is_not_there_or_goes_away(server, client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    gone = VllmClient(url, VllmSettings())
    assert not gone.alive()
    with pytest.raises(RolloutServerError, match=rf"/v1/models at {url}: .*refused"):
        gone.base_model()
    assert client.alive()
    server.spoil = lambda path, body, good: None  # it closes the connection without an answer
    with pytest.raises(RolloutServerError, match=r"/v1/completions at .*disconnected"):
        client.complete("base", (7,), WANTED)
    assert not client.alive()


def test_the_base_model_is_the_one_that_is_no_adapter(server, client):
    server.folders["fedrlvr-1"] = None
    assert client.base_model() == "base"
    server.spoil = lambda path, body, good: (200, b'{"data": [{"id": "x", "parent": "base"}]}')
    with pytest.raises(RolloutServerError, match="offers no model"):
        client.base_model()


def test_the_token_is_sent_and_never_logged(server, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", "s3cret-key")
    server.spoil = lambda path, body, good: (401, b"no")
    client = VllmClient(server.url, VllmSettings(token_variable="MY_KEY"))
    with pytest.raises(RolloutServerError, match="answered 401") as caught:
        client.base_model()
    assert server.asked[0][2]["Authorization"] == "Bearer s3cret-key"
    assert "s3cret" not in caplog.text + str(caught.value) + repr(client)
    monkeypatch.setenv("MY_KEY", "")
    with pytest.raises(ValueError, match="token_variable: the environment variable MY_KEY is not set"):
        VllmClient(server.url, VllmSettings(token_variable="MY_KEY"))


def test_the_environment_names_no_proxy_and_no_password(server, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    client = VllmClient(server.url, VllmSettings())
    assert client.base_model() == "base"
    assert "Authorization" not in server.asked[-1][2]


@pytest.fixture
def certificate(tmp_path):
    """A server's key and certificate, for 127.0.0.1."""
    files = (str(tmp_path / "key.pem"), str(tmp_path / "cert.pem"))
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", files[0], "-out", files[1]]
    names = ["-subj", "/CN=rollouts", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    return files[1], context


def test_tls_with_the_sites_own_certificates(certificate, tmp_path):
    path, context = certificate
    server = StandInServer(SimpleNamespace(), tls=context)
    trusting = VllmClient(server.url, VllmSettings(ca_file=path))
    assert trusting.base_model() == "base"
    with pytest.raises(RolloutServerError, match="CERTIFICATE_VERIFY_FAILED"):
        VllmClient(server.url, VllmSettings()).base_model()
    (tmp_path / "none.pem").write_text("no certificate")
    with pytest.raises(ValueError, match=r"ca_file: .*none.pem cannot be read as certificates"):
        VllmClient(server.url, VllmSettings(ca_file=tmp_path / "none.pem"))
    server.close()


def test_a_unix_socket(tmp_path):
    server = StandInServer(SimpleNamespace(), tmp_path / "s")
    client = VllmClient(server.url, VllmSettings())
    assert client.base_model() == "base"
    server.close()
