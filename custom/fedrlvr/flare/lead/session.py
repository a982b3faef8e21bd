"""A lead's line to a FLARE server: it comes back after a network hiccup, and says nothing on the console."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from nvflare.apis.fl_exception import FLCommunicationError
from nvflare.fuel.flare_api.api_spec import (
    AuthenticationError,
    AuthorizationError,
    ClientsStillRunning,
    CommandError,
    InternalError,
    InvalidJobDefinition,
    InvalidTarget,
    JobNotDone,
    JobNotFound,
    JobNotRunning,
    NoClientsAvailable,
    NoReply,
    SessionClosed,
)
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from fedrlvr.run import RunFailed

PATIENCE = 300.0  # seconds that a server may be out of reach before a run is given up
FIRST_PATIENCE = 20.0  # and before it was ever reached
CONNECT_WITHIN = 10.0
LOST = (ConnectionError, SessionClosed, FLCommunicationError, TimeoutError)
SAYS_NO = (  # how a server that is in reach refuses; FLARE gives these no class of their own
    AuthenticationError, AuthorizationError, ClientsStillRunning, CommandError, InternalError, InvalidJobDefinition,
    InvalidTarget, JobNotDone, JobNotFound, JobNotRunning, NoClientsAvailable, NoReply, RuntimeError,
)  # fmt: skip
T = TypeVar("T")


class KitError(ValueError):
    """A folder that is no administrator's startup kit."""


class Line:
    """Calls go to a session, which is opened anew when it is lost. FLARE's own words go to `log_path`."""

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
        self._handler = _log_to(log_path)

    def call(self, question: Callable[[Session], T]) -> T:
        """Raises RunFailed where the server stays out of reach; any of `SAYS_NO` is its answer."""
        lost = None
        while True:
            try:
                with self._quiet():
                    if self._session is None:
                        self._session = self._connect()
                    answer = question(self._session)
            except LOST as error:
                self._drop()
                if lost is None:
                    lost = time.monotonic()
                    self._note(f"no connection to the server ({_first_line(error)}); trying again")
                if time.monotonic() - lost >= self._left:
                    waited, self._left = self._left, 0.0
                    raise RunFailed(f"no connection to the server for {waited:.0f} s: {_first_line(error)}") from error
                time.sleep(self._pause)
            else:
                if lost is not None:
                    self._note("the server is in reach again")
                self._left = self._patience
                return answer

    def hurry(self, patience: float = FIRST_PATIENCE) -> None:
        """From now on somebody waits for the end: no server is worth more than this."""
        self._left = self._patience = min(self._patience, patience)

    def close(self) -> None:
        self._drop()
        logger = logging.getLogger("nvflare")
        logger.removeHandler(self._handler)
        logger.propagate = True
        self._handler.close()

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with self._quiet(), contextlib.suppress(*LOST, RuntimeError):
                session.close()

    @contextlib.contextmanager
    def _quiet(self):
        with (
            open(self.log_path, "a", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            yield


def open_kit(kit: Path) -> Callable[[], Session]:
    """How to open a session with an administrator's startup kit; its user is whom the kit was made for.

    Raises KitError.
    """
    path = kit / "startup" / "fed_admin.json"
    try:
        admin: Any = json.loads(path.read_bytes())["admin"]
        user, from_certificate = admin.get("username"), admin.get("uid_source") == "cert"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise KitError(
            f"{kit}: is no administrator's startup kit; expected a folder with startup/fed_admin.json, as "
            "`nvflare provision` makes one for every admin"
        ) from None
    if not isinstance(user, str) or not (user or from_certificate):
        raise KitError(f"{path}: admin.username: names nobody; expected the user that the kit was made for")
    return lambda: _connected(user, kit)


def _connected(user: str, kit: Path) -> Session:
    """In a thread of its own, for whose end an interruption waits: interrupted itself, FLARE would leave a thread that
    tries to connect for ever and lets no program end."""
    with ThreadPoolExecutor(1) as aside:
        opening = aside.submit(new_secure_session, user, str(kit), timeout=CONNECT_WITHIN, auto_login_max_tries=1)
        try:
            return opening.result()
        except KeyboardInterrupt:
            opening.add_done_callback(_hang_up)
            raise


def _hang_up(opening: Future[Session]) -> None:
    if opening.exception() is None:
        opening.result().close()


def _log_to(path: Path) -> logging.Handler:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
    logger = logging.getLogger("nvflare")
    logger.addHandler(handler)
    logger.propagate = False
    return handler


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
