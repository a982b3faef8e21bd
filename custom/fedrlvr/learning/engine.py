"""The DeepSpeed engine around the policy: log-probabilities, optimizer steps, adapters in and out."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist

from fedrlvr.config import OptimizerSettings
from fedrlvr.json_text import JsonError, from_json
from fedrlvr.learning.batch import Batch, Row, collate, micro_batches
from fedrlvr.learning.factors import Factors
from fedrlvr.learning.finite import check_finite
from fedrlvr.learning.gradient_hooks import GradientHooks
from fedrlvr.learning.model import Policy
from fedrlvr.learning.partitioned import gather_when_called, in_step
from fedrlvr.learning.ranks import keep_to_loopback
from fedrlvr.learning.scorer import Scorer
from fedrlvr.peft_folder import CARD, ORIGIN, Origin
from fedrlvr.types import Adapter

BATCH_SIZES = ("train_batch_size", "gradient_accumulation_steps", "train_micro_batch_size_per_gpu")
JOB_OWNED = ("optimizer", "scheduler", "gradient_clipping", *BATCH_SIZES)


def read_deepspeed_config(path: Path) -> dict:
    """A site's DeepSpeed file, which says how the hardware is used and nothing about the algorithm. Raises ValueError
    for what is not JSON, for a key that belongs to the job, and for an unknown ZeRO stage."""
    try:
        config = from_json(path.read_bytes())
    except JsonError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("zero_optimization", {}), dict):
        raise ValueError(f"{path}: expected a JSON object, with an object for zero_optimization if there is one")
    for key in JOB_OWNED:
        if key in config:
            raise ValueError(f"{path}: {key} belongs to the job's settings, not to a site's DeepSpeed file; remove it")
    stage = zero_stage(config)
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"{path}: there is no zero_optimization.stage {stage}; use 0, 1, 2 or 3")
    return config


def zero_stage(deepspeed_config: dict) -> int:
    return deepspeed_config.get("zero_optimization", {}).get("stage", 0)


class Engine:
    """One rank's share of a policy in training. All ranks must call the methods in the same order."""

    def __init__(
        self,
        policy: Policy,
        optimizer: OptimizerSettings,
        deepspeed_config: dict,
        temperature: float,
        ranks: int | None = None,
    ):
        """Only the first `ranks` ranks of the adapter train; None: all."""
        import deepspeed  # only now, as the import probes the machine and needs the environment to be set

        _forbid_compilation(deepspeed)
        if not dist.is_initialized():
            _make_group_of_one(deepspeed.get_accelerator().communication_backend_name())
        self.policy = policy
        self.temperature = temperature
        self.adapter_changed: Callable[[], None] = lambda: None  # called after each load and each step
        stage = zero_stage(deepspeed_config)
        self.scorer = Scorer(policy, temperature, partitioned=stage == 3)
        self.lora_parameters = [p for p in policy.model.parameters() if p.requires_grad]
        dtype = self.lora_parameters[0].dtype
        self._whole_gradients = stage == 0 and dtype == torch.float32
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=self.scorer,
            optimizer=_adamw(self.lora_parameters, optimizer),
            config=deepspeed_config | _own_settings(optimizer, dtype),
        )
        self.device = policy.model.device
        if stage == 3:
            gather_when_called(self._optimizer)
        self._torch_optimizer = getattr(self._optimizer, "optimizer", self._optimizer)  # DeepSpeed may have wrapped it
        self.reset_optimizer()  # DeepSpeed may have taken an empty step, which Adam counts
        self._factors = Factors(policy.model, self._optimized(), stage)
        self._proximal_mu, self._start = optimizer.proximal_mu, self.adapter()
        self._hooks = GradientHooks(self._factors.named, ranks, adds=self._proximal_mu > 0)
        self._forward: Callable = self._engine
        policy.model.eval()
        self._training_parts = [m for name, m in policy.model.named_modules() if _acts_in_training(name, m)]

    def begin_round(self, frozen: Collection[str], start: Adapter) -> None:
        """Train all factors but the `frozen` ones from here on. `start` is the adapter that the round began with, to
        which FedProx pulls back."""
        self._hooks.freeze(frozen)
        self._start = start

    @property
    def random_dropout(self) -> bool:
        """Whether a step draws random numbers."""
        return any(isinstance(part, torch.nn.Dropout) for part in self._training_parts)

    @contextmanager
    def training(self, seed: int, bare: bool = False) -> Iterator[None]:
        """Switch on LoRA dropout (its mask comes from `seed`) and gradient checkpointing for the block; everything else
        in the base model acts as in sampling. With `bare`, forward passes go around DeepSpeed: its own allow gradients
        only by its own backward."""
        self._forward = self.scorer if bare else self._engine
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self.scorer.recomputing():
            torch.manual_seed(seed)
            for part in self._training_parts:
                part.training = True
            try:
                yield
            finally:
                self._forward = self._engine
                for part in self._training_parts:
                    part.training = False

    def logprobs(self, batch: Batch, entropies: bool = False) -> torch.Tensor:
        """log pi(token) / temperature of every completion token, float32, shape NT; with gradient where enabled. With
        `entropies`, shape 2NT: these, and the entropies of the tokens' distributions."""
        return self._forward(batch, entropies)

    @torch.no_grad()
    def score(
        self, rows: Sequence[Row], micro_batch_size: int, reference: bool = False, entropies: bool = False
    ) -> list[tuple[float, ...]]:
        """Log-probabilities of each row's completion tokens under the policy, or under the frozen base model; with
        `entropies`, those of the tokens' distributions in their place."""
        scores: list[tuple[float, ...]] = [()] * len(rows)
        pad = self.policy.pad_id
        one_token = collate([Row((pad,), (pad,))], pad, self.device)
        adapter = self.policy.model.disable_adapter() if reference else nullcontext()
        with adapter, in_step(self.scorer, lambda: self.logprobs(one_token)):
            for part in micro_batches(rows, micro_batch_size):
                some = [rows[i] for i in part]
                values = self.logprobs(collate(some, pad, self.device), entropies)
                values = (values[1] if entropies else values).cpu()
                for i, row, v in zip(part, some, values, strict=True):
                    scores[i] = tuple(v[: len(row.completion_ids)].tolist())
        return scores

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Accumulate one micro-batch's gradient; `last` marks the last one of a step.

        DeepSpeed averages over ranks, so the loss is multiplied by their number to get the sum. With the last one comes
        the gradient of FedProx's term, mu/2 ||now - start||^2 (arXiv 1812.06127).
        """
        if last and self._proximal_mu > 0:
            now = self.adapter()
            self._hooks.add({name: self._proximal_mu * (now[name] - start) for name, start in self._start.items()})
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self._engine.world_size)

    def apply_gradient(self, gradient: Sequence[torch.Tensor]) -> float:
        """As `step`, with this gradient of the LoRA parameters, which must be the same on every rank."""
        # The gradient of sum(p g) is g, however DeepSpeed shards and reduces it.
        pairs = zip(self.lora_parameters, gradient, strict=True)
        loss = sum((p.float() * g.to(p.device, torch.float32)).sum() for p, g in pairs)
        self.backward(loss / self._engine.world_size, last=True)
        return self.step()

    def step(self) -> float:
        """Clip the gradient, take an optimizer step, and return the gradient's L2 norm before clipping. Raises
        NotFinite; the engine must not be used after that."""
        # Without ZeRO and in float32 DeepSpeed clips without keeping the norm, but then each rank has whole gradients.
        norms = [p.grad.norm() for p in self.lora_parameters if p.grad is not None]
        norm = float(torch.stack(norms).norm()) if norms else 0.0
        if self._whole_gradients:
            check_finite("gradient of a step", norm, self.policy)
        self._engine.step()
        self.adapter_changed()
        if not self._whole_gradients:
            norm = float(self._engine.get_global_grad_norm() or 0.0)
            check_finite("gradient of a step", norm, self.policy)
        return norm

    def adapter(self) -> Adapter:
        """A copy of the LoRA factors on the CPU in float32, names sorted."""
        return self._factors.read()

    def load_adapter(self, adapter: Adapter) -> None:
        """Replace the LoRA factors."""
        self._factors.write(adapter)
        self.adapter_changed()

    @contextmanager
    def borrowed(self, adapter: Adapter) -> Iterator[None]:
        """Use other factors during the block; afterwards factors and optimizer are restored bit for bit."""
        own, state = self.adapter(), self.optimizer_state()
        self.load_adapter(adapter)
        try:
            yield
        finally:
            self.load_adapter(own)
            self.load_optimizer_state(state)

    def optimizer_shapes(self) -> list[list[int]]:
        """Of the parameters in this rank's optimizer. ZeRO stage, precision and number of ranks decide them."""
        return [list(parameter.shape) for parameter in self._optimized()]

    def optimizer_state(self) -> dict[str, torch.Tensor]:
        """A copy of this rank's share of the optimizer's tensors: the moments, and its parameters where they are not
        the adapter's own: in bfloat16 or with ZeRO they are a float32 copy of those, or a part of them. The names are
        the same in every run."""
        state: dict[str, torch.Tensor] = {}
        for number, parameter in enumerate(self._optimized()):
            own = {} if self._is_factor(parameter) else {"parameter": parameter}
            tensors = own | self._torch_optimizer.state.get(parameter, {})
            state |= {f"{number}.{name}": tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        return state

    def load_optimizer_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load such a copy; the adapter that belongs to it must be loaded first. Raises ValueError for one of an
        optimizer over parameters of other shapes."""
        for number, parameter in enumerate(self._optimized()):
            prefix = f"{number}."
            parts = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            master = parts.pop("parameter", parameter if self._is_factor(parameter) else None)
            if master is None or any(t.shape != parameter.shape for t in (master, *parts.values()) if t.dim()):
                raise ValueError("the saved optimizer is for parameters of other shapes")
            with torch.no_grad():
                parameter.copy_(master)
            device = parameter.device
            moments = {name: t.clone() if t.dim() == 0 else t.to(device, copy=True) for name, t in parts.items()}
            self._torch_optimizer.state[parameter] = moments  # {} before the first step, as in a new optimizer

    def set_learning_rate(self, rate: float) -> None:
        """Of the steps from here on."""
        for group in self._torch_optimizer.param_groups:
            group["lr"] = rate

    def reset_optimizer(self) -> None:
        """Forget Adam's moments, as at the start of a round: they belong to the adapter that was averaged away."""
        self._torch_optimizer.state.clear()

    def _is_factor(self, parameter: torch.Tensor) -> bool:
        return any(parameter is factor for factor in self.lora_parameters)

    def _optimized(self) -> list[torch.Tensor]:
        if hasattr(self._optimizer, "fp32_partitioned_groups_flat"):  # of stage 3, which hands them out in a step only
            return self._optimizer.fp32_partitioned_groups_flat
        return [parameter for group in self._torch_optimizer.param_groups for parameter in group["params"]]

    def save_adapter(self, path: Path, origin: Origin) -> None:
        """Have rank 0 write the factors as a standard PEFT directory."""
        factors, model = self._factors.for_peft(), self.policy.model
        if dist.get_rank() == 0:
            model.peft_config[model.active_adapter].base_model_name_or_path = origin.base_model
            # Without embeddings: to see whether they changed, PEFT would look for the base model by its name.
            model.save_pretrained(path, safe_serialization=True, state_dict=factors, save_embedding_layers=False)
            (path / ORIGIN).write_text(origin.model_dump_json(indent=2) + "\n")
            (path / CARD).unlink(missing_ok=True)  # PEFT's, with nothing to read but this machine's path of the model


def _adamw(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.adam_epsilon,
        weight_decay=settings.weight_decay,
    )


def _own_settings(optimizer: OptimizerSettings, dtype: torch.dtype) -> dict:
    """What of DeepSpeed's configuration is not the site's."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": optimizer.max_grad_norm,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "steps_per_print": 2**31,
    }


def _acts_in_training(name: str, module: torch.nn.Module) -> bool:
    """Whether this is a checkpointed layer or LoRA's dropout (without dropout, PEFT puts an Identity there)."""
    dropout = ".lora_dropout." in name and isinstance(module, torch.nn.Dropout)
    return dropout or getattr(module, "gradient_checkpointing", False)


def _make_group_of_one(backend: str) -> None:
    # DeepSpeed wants a process group even for one rank. By itself it would open a store on every interface of the
    # machine for it, which unpickles what it receives.
    keep_to_loopback()
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)


def _forbid_compilation(deepspeed) -> None:
    # On CPU every initialize() would compile a shared-memory op with g++ and ninja (100 s, and a hang if an earlier
    # build was killed). DeepSpeed uses gloo if the op counts as unavailable. This table is private to DeepSpeed, so its
    # version is pinned and a test checks it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
