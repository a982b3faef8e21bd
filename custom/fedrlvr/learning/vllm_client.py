"""What is said to a vLLM server, over HTTP, and what is believed of its answers."""

import logging
import os
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, Field, ValidationError

from fedrlvr.json_text import JsonError, from_json
from fedrlvr.learning.generator import Sample
from fedrlvr.site_config import VllmSettings

LOGGER = logging.getLogger(__name__)
M = TypeVar("M", bound=BaseModel)
SHORT = 2**20  # bytes of an answer without completions
BYTES_OF_A_TOKEN = 4096  # of an answer, at most: its number, log-probability and text, several times
SECONDS = 60.0  # for all but completions
ROUNDING = 1e-4  # by which a log-probability may exceed 0


class RolloutServerError(RuntimeError):
    """The server did not do what was asked. The message quotes no prompt and no completion: it may leave the site."""


@dataclass(frozen=True)
class Wanted:
    """Of the completions to one prompt: how many, at most how many tokens, and which tokens end one; all are below
    `vocabulary`."""

    count: int
    length: int
    temperature: float
    seed: int
    eos_ids: tuple[int, ...]
    vocabulary: int


class _Logprobs(BaseModel):
    token_logprobs: list[Annotated[float, Field(le=ROUNDING)]]


class _Choice(BaseModel):
    index: int
    token_ids: list[int]
    logprobs: _Logprobs


class _Completions(BaseModel):
    choices: list[_Choice]


class _Model(BaseModel):
    id: str
    parent: str | None = None


class _Models(BaseModel):
    data: list[_Model]


class VllmClient:
    """Talks to one server. Several threads may complete prompts at the same time."""

    def __init__(self, url: str, settings: VllmSettings):
        """Raises ValueError where the environment variable of the token, or the file of certificates, is missing."""
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
        self._url, self._timeout = url, settings.request_timeout
        parts = urlsplit(url)
        uds = parts.path if parts.scheme == "unix" else None
        trusted = _trusted(settings) if parts.scheme == "https" else False
        # No proxy, and no password from ~/.netrc: the environment does not decide who sees private problems.
        self._http = httpx.Client(
            base_url="http://vllm" if uds else url,
            transport=httpx.HTTPTransport(uds=uds, verify=trusted, trust_env=False),
            headers=_authorization(settings),
            trust_env=False,
            follow_redirects=False,
        )

    def alive(self) -> bool:
        """Whether the server answers."""
        try:
            return self._http.get("/health", timeout=SECONDS).is_success
        except httpx.TransportError:
            return False

    def base_model(self) -> str:
        """The name under which the server has its model without an adapter."""
        models = _parsed(_Models, self._answer("GET", "/v1/models", SECONDS, SHORT))
        base = [model.id for model in models.data if model.parent is None]
        if not base:
            raise RolloutServerError(f"rollout.vllm: {self._url} offers no model")
        return base[0]

    def load_adapter(self, name: str, path: str) -> None:
        self._answer("POST", "/v1/load_lora_adapter", SECONDS, SHORT, {"lora_name": name, "lora_path": path})

    def unload_adapter(self, name: str) -> None:
        """An adapter that the server does not know is none that it has to forget."""
        self._answer("POST", "/v1/unload_lora_adapter", SECONDS, SHORT, {"lora_name": name}, allowed=404)

    def complete(self, model: str, prompt: Sequence[int], wanted: Wanted) -> list[Sample]:
        """Sample completions; entropies are estimated by their log-probabilities. Raises RolloutServerError."""
        asked = {
            "model": model,
            "prompt": list(prompt),
            "n": wanted.count,
            "max_tokens": wanted.length,
            "temperature": wanted.temperature,
            "seed": wanted.seed,
            "logprobs": 0,
            "return_token_ids": True,
            # Nothing else than these tokens ends a completion, and nothing else than the temperature moves a draw.
            "ignore_eos": True,
            "stop_token_ids": list(wanted.eos_ids),
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
        limit = SHORT + BYTES_OF_A_TOKEN * wanted.count * (wanted.length + len(prompt))
        answer = _parsed(_Completions, self._answer("POST", "/v1/completions", self._timeout, limit, asked))
        choices = sorted(answer.choices, key=lambda choice: choice.index)
        if [choice.index for choice in choices] != list(range(wanted.count)):
            raise RolloutServerError(
                f"rollout.vllm: {len(choices)} came where each of {wanted.count} completions was asked for"
            )
        return [_sample(choice, wanted) for choice in choices]

    def close(self) -> None:
        self._http.close()

    def _answer(self, method: str, path: str, seconds: float, limit: int, body=None, allowed: int = 200) -> bytes:
        """The bytes of a good answer, or of one with the status `allowed`. Raises RolloutServerError."""
        deadline = time.monotonic() + seconds  # httpx's time-out is one of each part
        try:
            with self._http.stream(method, path, json=body, timeout=seconds) as response:
                content = bytearray()
                for part in response.iter_bytes():
                    content += part
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout("")
                    if len(content) > limit:
                        raise RolloutServerError(f"rollout.vllm: {path} answered more than {limit:,} bytes")
        except httpx.TimeoutException:
            raise RolloutServerError(f"rollout.vllm: {path} gave no answer within {seconds:g} s") from None
        except httpx.HTTPError as error:
            raise RolloutServerError(f"rollout.vllm: {path} at {self._url}: {error or type(error).__name__}") from None
        if not response.is_success and response.status_code != allowed:
            LOGGER.error("rollout.vllm: %s answered %s: %.1000r", path, response.status_code, content)
            raise RolloutServerError(
                f"rollout.vllm: {path} answered {response.status_code}; this worker's log has the server's words"
            )
        return bytes(content)


def _trusted(settings: VllmSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"rollout.vllm.ca_file: {settings.ca_file} cannot be read as certificates: {error}") from None


def _authorization(settings: VllmSettings) -> dict[str, str]:
    name = settings.token_variable
    if name is None:
        return {}
    if not os.environ.get(name):
        raise ValueError(f"rollout.vllm.token_variable: the environment variable {name} is not set for this worker")
    return {"Authorization": f"Bearer {os.environ[name]}"}


def _parsed(model: type[M], content: bytes) -> M:
    try:
        return model.model_validate(from_json(content), strict=True)
    except (JsonError, ValidationError) as error:
        what = error if isinstance(error, JsonError) else _first(error)
        raise RolloutServerError(f"rollout.vllm: an answer that cannot be used: {what}") from None


def _first(error: ValidationError) -> str:
    """Where and what is wrong, without the value: a completion must not be quoted."""
    first = error.errors(include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _sample(choice: _Choice, wanted: Wanted) -> Sample:
    """Raises RolloutServerError where this is no completion as it was asked for."""
    ids, logprobs = tuple(choice.token_ids), tuple(choice.logprobs.token_logprobs)
    ended = bool(ids) and ids[-1] in wanted.eos_ids
    wrong = ""
    if len(logprobs) != len(ids):
        wrong = f"{len(ids)} tokens with {len(logprobs)} log-probabilities"
    elif not (1 <= len(ids) <= wanted.length if ended else len(ids) == wanted.length):
        wrong = f"{len(ids)} tokens, {'with' if ended else 'without'} an end token, of at most {wanted.length}"
    elif not all(0 <= token < wanted.vocabulary for token in ids):
        wrong = f"a token that is none of the model's {wanted.vocabulary:,}"
    elif set(ids[:-1]) & set(wanted.eos_ids):
        wrong = "an end token in its middle"
    if wrong:
        raise RolloutServerError(f"rollout.vllm: completion {choice.index} has {wrong}")
    return Sample(ids, logprobs, truncated=not ended, entropy=-sum(logprobs) / len(logprobs))
