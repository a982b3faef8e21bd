"""Sampling by a vLLM server, which has the model a second time."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from fedrlvr.learning.agreement import check_agreement
from fedrlvr.learning.generator import Sample, seed_from
from fedrlvr.learning.model import Policy
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.vllm_adapters import ServedAdapters
from fedrlvr.learning.vllm_client import RolloutServerError, VllmClient, Wanted
from fedrlvr.learning.vllm_server import ServerFailed, VllmServer
from fedrlvr.site_config import SiteConfig

LOGGER = logging.getLogger(__name__)
AT_ONCE = 64  # prompts that are sent before the first is answered


class VllmEngine:
    """The `Generator` of a vLLM server. Rank 0 starts the server, if it is the worker's own, and gives it adapters;
    each rank sends its own prompts."""

    repeats = False

    def __init__(self, policy: Policy, config: SiteConfig, ranks: Ranks):
        """Raises ValueError and ServerFailed where the server does not start, or does not compute what the worker's own
        model does."""
        self._policy, self._ranks = policy, ranks
        settings, first = config.rollout.vllm, ranks.rank == 0
        self._server = _own_server(policy, config) if settings.url is None and first else None
        url = ranks.broadcast(self._server.url if self._server else settings.url)
        self._client = VllmClient(url, settings)
        folder = settings.adapter_folder or config.state_dir / "rollout"
        self._adapters = ServedAdapters(policy, self._client, folder) if first else None
        self._base = ""
        try:
            self.exact_logprobs = ranks.broadcast(self._try() if first else None)
        except BaseException:
            self.close()
            raise

    def sample(
        self, prompts: Sequence[tuple[int, ...]], temperature: float, uniforms_NT: torch.Tensor
    ) -> list[list[Sample]]:
        """As `Generator.sample`. Raises RolloutServerError; the server is started again at the next call, if it is the
        worker's own and has died."""
        name = self._ranks.broadcast(self._served() if self._ranks.rank == 0 else None)
        return self._complete(name, prompts, temperature, uniforms_NT)

    def adapter_changed(self) -> None:
        if self._adapters is not None:
            self._adapters.changed()

    def close(self) -> None:
        """End the server, if it is the worker's own, or else have it forget the adapter."""
        try:
            if self._server is not None:
                self._server.close()
            if self._adapters is not None:
                self._adapters.clear(registered=self._server is None)
        except RolloutServerError as error:
            LOGGER.warning("the adapter stays at the server: %s", error)
        finally:
            self._client.close()

    def _try(self) -> bool:
        """Whether log-probabilities of sampling can be kept."""
        self._connect()
        try:
            self._adapters.clear()
            return check_agreement("rollout.engine vllm", self._policy, self._sample_alone, self.adapter_changed)
        except RolloutServerError as error:
            if self._server is None:
                raise
            raise ServerFailed(f"{error}; {self._server.last_words()}; see {self._server.log}") from None

    def _sample_alone(self, prompts, temperature: float, uniforms_NT: torch.Tensor) -> list[list[Sample]]:
        """As `sample`, on one rank."""
        return self._complete(self._served(), prompts, temperature, uniforms_NT)

    def _served(self) -> str:
        """The server's name for the policy as it is now."""
        if self._server is not None and not self._server.running:
            LOGGER.warning("the rollout server has died and is started again; see %s", self._server.log)
            self._connect()
        return self._adapters.current() if _adapter_acts(self._policy) else self._base

    def _connect(self) -> None:
        if self._server is not None:
            self._server.start(self._client.alive)
            self._adapters.changed()
        self._base = self._client.base_model()

    def _complete(self, name: str, prompts, temperature: float, uniforms_NT: torch.Tensor) -> list[list[Sample]]:
        if not prompts:
            return []
        vocabulary = self._policy.model.config.get_text_config().vocab_size
        parts = uniforms_NT.split(len(uniforms_NT) // len(prompts))

        def complete(prompt: tuple[int, ...], uniforms: torch.Tensor) -> list[Sample]:
            seed, end = seed_from(uniforms), self._policy.eos_ids
            return self._client.complete(name, prompt, Wanted(*uniforms.shape, temperature, seed, end, vocabulary))

        executor = ThreadPoolExecutor(AT_ONCE)
        try:
            return list(executor.map(complete, prompts, parts))
        except RolloutServerError:
            self.adapter_changed()  # who knows what the server still has
            raise
        finally:
            executor.shutdown(cancel_futures=True)


def _own_server(policy: Policy, config: SiteConfig) -> VllmServer:
    config.state_dir.mkdir(parents=True, exist_ok=True)
    lora = policy.model.peft_config["default"]
    return VllmServer(config, policy.model.device.type == "cuda", lora.r, config.state_dir / "vllm.log")


def _adapter_acts(policy: Policy) -> bool:
    """Not while it is disabled, as for a measurement of the base model."""
    return any(isinstance(part, BaseTunerLayer) and not part.disable_adapters for part in policy.model.modules())
