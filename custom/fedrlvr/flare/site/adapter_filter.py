"""A fail-closed privacy filter for the weights of any FLARE PyTorch job, for a site's own `local/privacy.json`."""

import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.filter import ContentBlockedException, Filter, FilterChainType, FilterContextKey
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply

from fedrlvr.flare.messages import dxo_of, only_dxo
from fedrlvr.privacy.adapter_release import AdapterRelease
from fedrlvr.privacy.egress_log import EgressLog, fingerprint
from fedrlvr.privacy.ledger import Ledger, Source
from fedrlvr.privacy.policy import AdapterRules
from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.protocol.refused import Refused
from fedrlvr.settings_file import validate_settings

RECEIVED = "fedrlvr.received"
NUMBERS = {MetaKey.NUM_STEPS_CURRENT_ROUND, MetaKey.CURRENT_ROUND, MetaKey.TOTAL_ROUNDS}
METRICS = MetaKey.INITIAL_METRICS
ROUNDS = {"start_round", "current_round", "num_rounds"}
HEADERS = {ReservedHeaderKey.CONTENT_TYPE, ReservedHeaderKey.RC, *ROUNDS}
MOST = 10**9  # for every count: the digits of a larger number could carry a text


class AdapterFilter(Filter):
    """The weights sent back differ from those received by at most `clip_norm`, plus noise if configured. All else is
    refused.

    Name it twice, with the same arguments. Among `task_data_filters` it remembers the received weights, and refuses a
    job whose planned rounds exceed the budget. Among `task_result_filters` it releases exactly the same names, shapes
    and dtypes, as WEIGHTS or WEIGHT_DIFF: clipped, charged to the ledger, with noise, and logged.

    Args:
        model: the name by which the ledger counts; releases of one model add up over all jobs.
        clip_norm, noise_multiplier, max_epsilon, delta: see `fedrlvr.privacy.policy.AdapterRules`.
        rounds: the number of rounds of a job that does not say it itself (header `num_rounds`).
        metrics: whether a result may carry `initial_metrics`, numbers under names of at most 64 characters.
        ledger, log: files, relative to the site's `local` folder.
    """

    def __init__(
        self,
        model: str,
        clip_norm: float,
        noise_multiplier: float = 0.0,
        max_epsilon: float | None = None,
        delta: float = 1e-5,
        rounds: int | None = None,
        metrics: bool = False,
        ledger: str = "fedrlvr-ledger.jsonl",
        log: str = "fedrlvr-egress.jsonl",
    ):
        """Raises SettingsError for impossible rules; then no job starts at this site."""
        super().__init__()
        # FLARE's job API writes arguments down from attributes of their names.
        self.model, self.clip_norm, self.noise_multiplier = model, clip_norm, noise_multiplier
        self.max_epsilon, self.delta, self.rounds, self.metrics = max_epsilon, delta, rounds, metrics
        self.ledger, self.log = ledger, log
        limits = {"clip_norm": clip_norm, "noise_multiplier": noise_multiplier, "max_epsilon": max_epsilon}
        self._rules = validate_settings(AdapterRules, limits | {"delta": delta}, "AdapterFilter")

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Raises ContentBlockedException for what may not pass; FLARE turns it into an error without text."""
        try:
            if self.get_prop(FilterContextKey.CHAIN_TYPE) == FilterChainType.TASK_DATA_CHAIN:
                self._remember(shareable, fl_ctx)
                return shareable
            return self._released(shareable, fl_ctx)
        except Refused as reason:
            # Not log_error(): it fires an event, which a job can have sent to the server.
            self.logger.error("refused: %s", reason)
            raise ContentBlockedException(str(reason)) from None

    def _remember(self, shareable: Shareable, fl_ctx: FLContext) -> None:
        dxo = dxo_of(shareable, "the message")
        # A copy, because training may change the received tensors in place.
        received = deepcopy(dxo.data) if dxo.data_kind == DataKind.WEIGHTS else None
        fl_ctx.set_prop(RECEIVED, received, private=True, sticky=True)
        rounds = self.rounds or shareable.get_header("num_rounds")
        if self._rules.noise_multiplier > 0 and not isinstance(rounds, int):
            raise Refused("neither the job nor the filter's argument `rounds` says how many rounds are planned")
        current = shareable.get_header("current_round", 0)
        log, release = self._records(fl_ctx)
        release.ledger.check_knows(log.last_ledger())
        release.check_plan(max(1, (rounds or 1) - (current if isinstance(current, int) else 0)))

    def _released(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        code = shareable.get_return_code(ReturnCode.OK)
        if code != ReturnCode.OK:
            return make_reply(code if code in vars(ReturnCode).values() else ReturnCode.EXECUTION_EXCEPTION)
        place = {"site": fl_ctx.get_identity_name(), "job": fl_ctx.get_job_id(), "model": self.model}
        current = shareable.get_header("current_round")
        place |= {"task": str(fl_ctx.get_prop(FLContextKey.TASK_NAME)), "round": current if _round(current) else None}
        log, release = self._records(fl_ctx)
        with log.written(**place, kind="adapter") as entry:
            dxo = only_dxo(shareable, HEADERS)
            self._check_form(shareable, dxo)
            received = fl_ctx.get_prop(RECEIVED)
            if not isinstance(received, dict):
                raise Refused("no weights came with this task, so there is nothing to compare the result with")
            full = dxo.data_kind == DataKind.WEIGHTS
            delta, spec = _difference(dxo.data, received, full), {name: list(v.shape) for name, v in received.items()}
            delta, measured = release(delta, spec)
            sent = {name: _like(received[name], delta[name], full) for name in received}
            payload = as_safetensors({name: torch.as_tensor(value) for name, value in sent.items()})
            entry |= {"count": len(sent), "rules": measured, **fingerprint(payload)}
            entry["ledger"] = release.ledger.last_hash()
        return DXO(dxo.data_kind, data=sent, meta=dxo.meta).update_shareable(shareable)

    def _records(self, fl_ctx: FLContext) -> tuple[EgressLog, AdapterRelease]:
        local = Path(fl_ctx.get_engine().get_workspace().get_site_config_dir())
        ledger = Ledger(local / self.ledger, fl_ctx.get_identity_name())
        return EgressLog(local / self.log), AdapterRelease(self._rules, ledger, Source(self.model), fl_ctx.get_job_id())

    def _check_form(self, shareable: Shareable, dxo: DXO) -> None:
        for name in ROUNDS:
            value = shareable.get_header(name)
            if value is not None and not _round(value):
                raise Refused(f"the result's header {name} is not a round")
        if dxo.data_kind not in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
            raise Refused(f"a result of kind {str(dxo.data_kind)[:80]}, expected WEIGHTS or WEIGHT_DIFF")
        for name, value in dxo.meta.items():
            allowed = name == METRICS and self.metrics and isinstance(value, dict)
            values = value if allowed else {name: value}
            known = allowed or name in NUMBERS
            if not known or not all(isinstance(k, str) and len(k) <= 64 and _number(v) for k, v in values.items()):
                raise Refused(f"the result's meta holds {str(name)[:80]!r}, which is not a number that may leave")


def _round(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _number(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) <= MOST
    return isinstance(value, float) and math.isfinite(value)


def _difference(data: object, received: Mapping, full: bool) -> dict[str, torch.Tensor]:
    """Result minus what was received, as float32. Raises Refused for other names, dtypes or containers."""
    if not isinstance(data, dict) or set(data) != set(received):
        raise Refused("the result's tensors have other names than the received ones")
    delta = {}
    for name, value in received.items():
        if type(data[name]) is not type(value) or data[name].dtype != value.dtype or data[name].shape != value.shape:
            raise Refused(f"{name} has another type or shape than the received one")
        result, start = torch.as_tensor(data[name]), torch.as_tensor(value)
        if not start.is_floating_point():
            raise Refused(f"{name} holds {start.dtype}: only floating-point numbers can be clipped")
        delta[name] = (result.double() - start.double() if full else result).float()
    return delta


def _like(start, delta: torch.Tensor, full: bool):
    """The released tensor in the container and dtype of the received one."""
    value = torch.as_tensor(start).double() + delta.double() if full else delta
    value = value.to(torch.as_tensor(start).dtype)
    return value.numpy() if isinstance(start, np.ndarray) else value
