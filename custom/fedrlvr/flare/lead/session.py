"""A session with a FLARE server that reconnects after a network failure and prints nothing on the console."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from nvflare.apis.fl_exception import FLCommunicationError
from nvflare.fuel.flare_api import api_spec
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from fedrlvr.flare.reach import ADMIN_KIT, server_in
from fedrlvr.json_text import from_json
from fedrlvr.processes import interruption_waits
from fedrlvr.run import RunFailed, log_to
from fedrlvr.settings_file import SettingsError

PATIENCE = 300.0  # seconds that a server may be unreachable before the run is given up
FIRST_PATIENCE = 20.0  # the same, before the server was reached for the first time
HURRIED_PATIENCE = 5.0  # the same, when a person waits for the command to end
CONNECT_TIMEOUT = 10.0  # seconds for one attempt
CONNECTION_LOST = (ConnectionError, api_spec.SessionClosed, FLCommunicationError, TimeoutError)
# How a reachable server refuses a request or cannot do it: FLARE's exceptions have no common base class.
_FLARE_ERRORS = [e for e in vars(api_spec).values() if isinstance(e, type) and issubclass(e, Exception)]
REFUSALS = (RuntimeError, *(error for error in _FLARE_ERRORS if not issubclass(error, CONNECTION_LOST)))
T = TypeVar("T")


class Unreachable(RunFailed):
    """The server stayed out of reach. What it runs goes on there."""


class FlareSession:
    """Opens a new FLARE session whenever the current one is lost. What FLARE prints and logs goes to `log_path`."""

    def __init__(
        self,
        connect: Callable[[], Session],
        log_path: Path,
        note: Callable[[str], None] = lambda text: None,
        patience: float = PATIENCE,
        first_patience: float = FIRST_PATIENCE,
        pause: float = 2.0,
    ):
        self.log_path = log_path
        self._connect, self._note, self._pause = connect, note, pause
        self._left, self._patience = first_patience, patience
        self._session: Session | None = None
        self._end_log = log_to(log_path, "nvflare")

    def call(self, what: str, request: Callable[[Session], T], *passed: type[Exception]) -> T:
        """The answer. Raises Unreachable; RunFailed, which begins with `what`, if the server refuses; and errors that
        are `passed` on."""
        lost = None
        while True:
            try:
                with output_to(self.log_path):
                    if self._session is None:
                        self._open()
                    answer = request(self._session)
            except passed:
                raise
            except CONNECTION_LOST as error:
                self._drop()
                reason = _first_line(error)
                if lost is None:
                    lost = time.monotonic()
                    self._note(f"no connection to the server ({reason}); trying again")
                if time.monotonic() - lost >= self._left:
                    waited, self._left = self._left, 0.0
                    raise Unreachable(f"no connection to the server for {waited:.0f} s: {reason}") from error
                time.sleep(self._pause)
            except REFUSALS as error:
                raise RunFailed(f"{what}: {error}") from error
            else:
                if lost is not None:
                    self._note("the server is in reach again")
                self._left = self._patience
                return answer

    def sites(self) -> list[str]:
        """The names of those connected, sorted. Raises as `call`."""
        clients = self.call("the server does not list its sites", lambda flare: flare.get_connected_client_list())
        return sorted(client.name for client in clients)

    def hurry(self) -> None:
        """Give up an unreachable server sooner from now on, because a person waits for the command to end."""
        self._left = self._patience = min(self._patience, HURRIED_PATIENCE)

    def close(self) -> None:
        try:
            self._drop()
        finally:
            self._end_log()

    def _open(self) -> None:
        """FLARE's own code, if interrupted, leaves a thread that tries to connect for ever: the program cannot end."""
        with interruption_waits():
            self._session = self._connect()

    def _drop(self) -> None:
        with interruption_waits():
            session, self._session = self._session, None
            if session is not None:
                with output_to(self.log_path), contextlib.suppress(*CONNECTION_LOST, RuntimeError):
                    session.close()


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Append to this file what FLARE prints."""
    with open(path, "a", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield


def abort_anyway(session: Session, job_id: str) -> None:
    """Abort a job that may not run: one that died with an earlier server is still marked as running."""
    with contextlib.suppress(*REFUSALS):
        session.abort_job(job_id)


def open_kit(kit: Path) -> Callable[[], Session]:
    """A function that opens a session with an administrator's startup kit, as the user that the kit was made for; where
    it cannot, its ConnectionError names the server and the cause. Raises SettingsError for a folder that is no such
    kit."""
    path = kit / "startup" / ADMIN_KIT
    try:
        admin: Any = from_json(path.read_bytes())["admin"]
        user, from_certificate = admin.get("username"), admin.get("uid_source") == "cert"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise SettingsError(
            f"{kit}: not an administrator's startup kit; expected a folder with startup/fed_admin.json, which "
            "`nvflare provision` makes for every admin"
        ) from None
    if not isinstance(user, str) or not (user or from_certificate):
        raise SettingsError(f"{path}: admin.username: empty; expected the user that the kit was made for")

    def connect() -> Session:
        try:
            return new_secure_session(user, str(kit), timeout=CONNECT_TIMEOUT, auto_login_max_tries=1)
        except CONNECTION_LOST as error:
            raise ConnectionError(_why(kit, error)) from error

    return connect


def _why(kit: Path, error: Exception) -> str:
    """The server that the kit names, and why it is out of reach; FLARE's own `error` where that is not to be seen."""
    try:
        server = server_in(kit, ADMIN_KIT)
        trouble = server.trouble()
    except SettingsError as reason:
        return str(reason)
    return f"{server}: {'; '.join(trouble)}" if trouble else f"{server} answers, but {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
