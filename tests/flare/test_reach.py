"""A server is reached over TLS with the certificates of a real kit, or the cause is told."""

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nvflare.fuel.f3.drivers.driver_params import DriverParams
from nvflare.fuel.f3.drivers.net_utils import get_ssl_context
from nvflare.lighter.utils import Identity, generate_cert, generate_keys, serialize_cert, serialize_pri_key

from fedrlvr.flare import reach
from fedrlvr.flare.deploy.project import provision
from fedrlvr.flare.lead.session import FlareSession, Unreachable, open_kit
from fedrlvr.flare.reach import ADMIN_KIT, SITE_KIT, server_in
from fedrlvr.flare.site.site_checks import check_server
from fedrlvr.settings_file import SettingsError

PROJECT = Path(__file__).parents[2] / "poc" / "project.yml"
LEAD = "lead@consortium.org"


@pytest.fixture(scope="module")
def consortia(tmp_path_factory) -> tuple[Path, Path]:
    """The kits of two consortia whose projects say the same."""
    out = tmp_path_factory.mktemp("kits")
    return tuple(provision(PROJECT, out / name, "localhost", 8002, ["north"]) for name in ("ours", "theirs"))


@pytest.fixture
def kits(consortia, tmp_path) -> Path:
    """A copy of our consortium's kits, to be changed."""
    return shutil.copytree(consortia[0], tmp_path / "ours")


def at_port(kit: Path, port: int) -> Path:
    """The kit, whose server is at this port of this machine."""
    for path in (kit / "startup").glob("fed_*.json"):
        path.write_text(path.read_text().replace("localhost:8002", f"127.0.0.1:{port}").replace("8002", str(port)))
    return kit


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port at which somebody answers each connection so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def flares(startup: Path, root: Path | None = None) -> Callable[[socket.socket], None]:
    """How FLARE's server with these certificates answers: it checks the client's, and waits for it to speak."""
    context = get_ssl_context(
        {
            DriverParams.SECURE.value: True,
            DriverParams.CA_CERT.value: str(root or startup / "rootCA.pem"),
            DriverParams.SERVER_CERT.value: str(startup / "server.crt"),
            DriverParams.SERVER_KEY.value: str(startup / "server.key"),
        },
        ssl_server=True,
    )

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            assert secured.recv(1) == b""

    return answer


def told(kit: Path) -> reach.Trouble | None:
    return server_in(kit, SITE_KIT).trouble()


@pytest.mark.parametrize(("name", "file"), [("north", SITE_KIT), (LEAD, ADMIN_KIT)])
def test_the_server_of_the_kits_own_consortium_is_reached(kits, name, file):
    with listening(flares(kits / "localhost" / "startup")) as port:
        server = server_in(at_port(kits / name, port), file)
        assert server.trouble() is None
    assert str(server).endswith(f":{port}")


def test_a_kit_of_another_consortium_does_not_know_the_server(kits, consortia):
    with listening(flares(consortia[1] / "localhost" / "startup")) as port:
        cause, remedy = told(at_port(kits / "north", port))
    assert cause.startswith("TLS fails: ")
    assert remedy == reach.FOREIGN


def test_a_server_that_does_not_know_the_kit_refuses_it_after_the_kit_was_content(kits, consortia):
    with listening(flares(kits / "localhost" / "startup", consortia[1] / "north" / "startup" / "rootCA.pem")) as port:
        cause, remedy = told(at_port(kits / "north", port))
    assert "UNKNOWN_CA" in cause or "DECRYPT_ERROR" in cause, cause
    assert remedy == reach.FOREIGN


def test_an_expired_certificate_is_called_so(kits):
    past = datetime.now(UTC) - timedelta(days=2)
    subject, issuer = Identity("localhost", "consortium"), Identity("fedrlvr")
    (key, public), (root_key, root_public) = generate_keys(), generate_keys()
    root = generate_cert(issuer, issuer, root_key, root_public, ca=True)
    day = {"not_valid_before": past, "not_valid_after": past + timedelta(days=1)}
    server, client = kits / "localhost" / "startup", kits / "north" / "startup"
    (server / "server.crt").write_bytes(serialize_cert(generate_cert(subject, issuer, root_key, public, **day)))
    (server / "server.key").write_bytes(serialize_pri_key(key))
    (client / "rootCA.pem").write_bytes(serialize_cert(root))
    with listening(flares(server)) as port:
        cause, remedy = told(at_port(kits / "north", port))
    assert (cause, remedy) == ("TLS fails: certificate has expired", reach.UNTIMELY)


@pytest.mark.parametrize("answer", [lambda connection: None, lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")])
def test_something_else_at_the_port_is_not_called_another_consortium(kits, answer):
    with listening(answer) as port:
        assert told(at_port(kits / "north", port)) == reach.NO_TLS


def test_a_port_at_which_nobody_listens_and_one_that_swallows_connections(kits, monkeypatch):
    monkeypatch.setattr(reach, "PATIENCE", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        kit = at_port(kits / "north", listener.getsockname()[1])
        assert told(kit) == reach.REFUSED
        listener.listen(0)
        with socket.create_connection(listener.getsockname()):  # which fills its queue
            assert told(kit) == reach.NO_ANSWER


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70, ".."])
def test_a_name_that_does_not_resolve(kits, host):
    path = kits / "north" / "startup" / SITE_KIT
    path.write_text(path.read_text().replace("localhost:8002", f"{host}:8002"))
    assert told(kits / "north") == reach.NO_NAME


@pytest.mark.parametrize("target", ["", "localhost", ":8002", "localhost:0", "localhost:port", 8002, None])
def test_a_kit_that_does_not_say_where_the_server_is(kits, target):
    path = kits / "north" / "startup" / SITE_KIT
    values = json.loads(path.read_text())
    values["servers"][0]["service"]["target"] = target
    path.write_text(json.dumps(values))
    with pytest.raises(
        SettingsError, match=r"fed_client\.json: (does not say where|expected the server's host and port)"
    ):
        server_in(kits / "north", SITE_KIT)


@pytest.mark.parametrize("name", ["rootCA.pem", "client.crt", "client.key"])
def test_certificates_that_are_missing_or_damaged(kits, name):
    path = kits / "north" / "startup" / name
    for spoil in (lambda: path.write_text("x"), path.unlink):
        spoil()
        with pytest.raises(SettingsError, match="startup: certificates cannot be used"):
            told(kits / "north")


def test_a_kit_without_tls_is_only_connected_to(kits):
    path = kits / "north" / "startup" / SITE_KIT
    path.write_text(path.read_text().replace('"mtls"', '"clear"'))
    with listening(lambda connection: None) as port:
        assert told(at_port(kits / "north", port)) is None


def test_doctor_tells_of_a_server_only_where_the_site_file_is_in_a_kit(kits, tmp_path):
    assert list(check_server(tmp_path / "local" / "fedrlvr.yaml")) == []
    site_file = kits / "north" / "local" / "fedrlvr.yaml"
    with listening(flares(kits / "localhost" / "startup")) as port:
        at_port(kits / "north", port)
        (found,) = check_server(site_file)
        assert (found.about, found.status, found.text) == ("server", "ok", f"127.0.0.1:{port} answers")
    (found,) = check_server(site_file)
    assert (found.status, found.text) == ("warning", f"127.0.0.1:{port}: nothing listens there")
    assert found.remedy == "who runs the server starts it: startup/start.sh in its kit"


def test_a_lead_is_told_which_server_is_out_of_reach_and_why(kits, consortia, tmp_path, monkeypatch):
    monkeypatch.setattr("fedrlvr.flare.lead.session.CONNECT_TIMEOUT", 0.5)
    with listening(flares(consortia[1] / "localhost" / "startup")) as port:
        connect = open_kit(at_port(kits / LEAD, port))
        opened = FlareSession(connect, tmp_path / "flare.log", first_patience=0.0)
        said = rf"no connection to the server for 0 s: localhost:{port}: TLS fails: .*; {reach.FOREIGN}"
        with pytest.raises(Unreachable, match=said):
            opened.call("", lambda flare: None)
        opened.close()
