"""Whether the server that a startup kit names can be reached with the kit's own certificates and, if not, why."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fedrlvr.json_text import from_json
from fedrlvr.printable import one_line
from fedrlvr.settings_file import SettingsError

SITE_KIT, ADMIN_KIT = "fed_client.json", "fed_admin.json"  # in `startup/`
PATIENCE = 5.0  # seconds for the connection, and again for TLS
LAST_WORD = 1.0  # seconds: under TLS 1.3 a server refuses a certificate only after the client has finished


class Trouble(NamedTuple):
    """Why a server was not reached, and what to do."""

    cause: str
    remedy: str


NO_NAME = Trouble("its name does not resolve", "ask for its entry in DNS, or add one to /etc/hosts")
REFUSED = Trouble("nothing listens there", "who runs the server starts it: startup/start.sh in its kit")
NO_ANSWER = Trouble(f"no answer in {PATIENCE:.0f} s", "a firewall may be between here and there")
NO_TLS = Trouble("the connection was closed, or nobody spoke TLS", "another program, or a proxy, may be at that port")
FOREIGN = "this kit may be of another consortium than the server: ask for one that was provisioned together with it"
UNTIMELY = "provision new kits, or set the clock that is wrong"


@dataclass(frozen=True)
class Server:
    """What a kit says of its server. `certificates` is the kit's folder with them; None: it is asked without TLS."""

    host: str
    port: int
    certificates: Path | None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def trouble(self) -> Trouble | None:
        """None if it can be reached. Nothing is sent to it. Raises SettingsError for certificates of no use."""
        context = self._context()
        try:
            with socket.create_connection((self.host, self.port), PATIENCE) as connection:
                return _refusal(connection, context) if context else None
        except (socket.gaierror, UnicodeError):
            return NO_NAME
        except ConnectionRefusedError:
            return REFUSED
        except TimeoutError:
            return NO_ANSWER
        except OSError as error:
            return Trouble(error.strerror or type(error).__name__, "look at this machine's network")

    def _context(self) -> ssl.SSLContext | None:
        """As FLARE's clients make it: the kit's root certificate says who is the server, not a name."""
        if self.certificates is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.set_alpn_protocols(["h2", "http/1.1"])  # a gRPC server talks to nobody who does not offer its own
        path = self.certificates
        try:
            context.load_verify_locations(path / "rootCA.pem")
            context.load_cert_chain(path / "client.crt", path / "client.key")
        except OSError as error:  # as are SSL's
            reason = one_line(str(error.strerror or error))
            raise SettingsError(f"{path}: certificates cannot be used ({reason}); provision a new kit") from None
        return context


def server_in(kit: Path, name: str) -> Server:
    """The server of the kit whose `startup/` holds the file `name`. Raises SettingsError."""
    path = kit / "startup" / name
    try:
        values: Any = from_json(path.read_bytes())
        if name == ADMIN_KIT:
            said = values["admin"]
            host, port = said["host"], said["port"]
        else:
            said = values["client"]
            host, _, port = values["servers"][0]["service"]["target"].rpartition(":")
        secure = said.get("connection_security", "mtls") == "mtls"
        server = Server(host, int(port), path.parent if secure else None)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise SettingsError(f"{path}: does not say where the server is; provision a new kit") from None
    if not isinstance(host, str) or not host or not 0 < server.port < 2**16:
        raise SettingsError(f"{path}: expected the server's host and port, found {str(server)!r:.80}")
    return server


def _refusal(connection: socket.socket, context: ssl.SSLContext) -> Trouble | None:
    """Why the two sides do not agree on TLS; None if they do."""
    try:
        with context.wrap_socket(connection) as secured:
            secured.settimeout(LAST_WORD)
            try:
                spoke = secured.recv(1)
            except TimeoutError:
                return None  # it waits for us to speak, as it should
            return None if spoke else NO_TLS
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return NO_TLS
    except ssl.SSLError as error:
        if error.reason == "WRONG_VERSION_NUMBER":
            return NO_TLS
        said = one_line(getattr(error, "verify_message", "") or error.reason or str(error))
        untimely = any(word in said.lower() for word in ("expired", "not yet valid"))
        return Trouble(f"TLS fails: {said}", UNTIMELY if untimely else FOREIGN)
    except (TimeoutError, ConnectionError):
        return NO_TLS
