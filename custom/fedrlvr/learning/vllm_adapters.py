"""The policy's adapter at a vLLM server: under a fresh name and in a fresh folder after every change.

A server keeps what it computed under a name, and reads a folder again whenever it likes. So a name and its folder never
change, and the folder is deleted only once the name is forgotten.
"""

import secrets
import shutil
from pathlib import Path

from safetensors import SafetensorError

from fedrlvr.learning.model import Policy
from fedrlvr.learning.vllm_client import VllmClient

PREFIX = "fedrlvr-"


class ServedAdapters:
    """At most one adapter is at the server between two calls."""

    def __init__(self, policy: Policy, client: VllmClient, folder: Path):
        self._policy, self._client, self._folder = policy, client, folder.resolve()
        self._name: str | None = None

    def current(self) -> str:
        """The name of the policy's adapter as it is now. Raises RolloutServerError, and OSError where it cannot be
        written."""
        if self._name is None:
            self.clear()
            name = PREFIX + secrets.token_hex(8)
            path = self._folder / name
            try:
                self._policy.model.save_pretrained(path, safe_serialization=True)
            except SafetensorError as error:  # of a full disk, too
                raise OSError(f"the adapter cannot be written to {path}: {error}") from None
            self._client.load_adapter(name, str(path))
            self._name = name
        return self._name

    def changed(self) -> None:
        """The policy's adapter is another one now."""
        self._name = None

    def clear(self, registered: bool = True) -> None:
        """Delete every adapter in the folder, also those of an earlier worker; before, the server forgets it, where it
        may be `registered`. Nobody may be sampling."""
        self._name = None
        for path in sorted(self._folder.glob(f"{PREFIX}*")):
            if registered:
                self._client.unload_adapter(path.name)
            shutil.rmtree(path)
