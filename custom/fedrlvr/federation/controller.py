"""The server's workflow: the round, readable as a paragraph. What it decides is in `algorithms/`; how it asks, in
`sites.py`."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from fedrlvr.algorithms.aggregate import AGGREGATORS
from fedrlvr.algorithms.drift import drift
from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.algorithms.methods import METHODS
from fedrlvr.algorithms.pool import pool_for
from fedrlvr.algorithms.schedule import Leg, plan_round
from fedrlvr.config import JobConfig
from fedrlvr.federation.checkpoint import write_adapter
from fedrlvr.federation.journal import Journal
from fedrlvr.federation.live_journal import serve_journal
from fedrlvr.federation.messages import adapter_bytes, envelope, request, response_bytes
from fedrlvr.federation.sites import QuorumLost, RunAborted, Sites
from fedrlvr.privacy.guards import check_adapter, check_responses
from fedrlvr.privacy.reports import check_scores, check_spec, check_steps
from fedrlvr.tasks.task import VARIANTS
from fedrlvr.types import Adapter, PublicResponse, SiteUpdate


class PubSwapController(Controller):
    """Runs every method of `METHODS`; they differ in what `plan_round` plans and in whether adapters are averaged."""

    def __init__(self, job: str, public_ids: list[str], manifest: str):
        """`job` is a JobConfig as JSON, `public_ids` the public problems in the manifest's order, `manifest` their
        hash."""
        super().__init__(task_check_period=0.05)
        self.job = job
        self.public_ids = public_ids
        self.manifest = manifest

    def start_controller(self, fl_ctx: FLContext) -> None:
        self._config = JobConfig.model_validate_json(self.job)
        self._method = METHODS[self._config.method]
        fobs.register(TensorDecomposer)
        torch.set_num_threads(1)  # sums in one fixed order: a run repeats byte for byte
        self._folder = Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id())) / "fedrlvr"
        self._journal = Journal(self._folder)
        serve_journal(fl_ctx.get_engine(), self._folder / "metrics.jsonl")
        self._late = 0
        self._round = 0

    def stop_controller(self, fl_ctx: FLContext) -> None:
        self._journal.close()

    def process_result_of_unknown_task(self, client, task_name, client_task_id, result, fl_ctx) -> None:
        self._late += 1
        self._journal.write("late", site=client.name, task=task_name, count=self._late)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        federation = self._config.federation
        self._sites = Sites(
            controller=self,
            fl_ctx=fl_ctx,
            abort_signal=abort_signal,
            names=sorted(client.name for client in fl_ctx.get_engine().get_clients()),
            min_sites=federation.min_sites,
            deadline=federation.step_deadline,
            pickup_deadline=federation.pickup_deadline,
            on_failure=lambda **failure: self._journal.write("failure", **failure),
        )
        try:
            self._run()
        except QuorumLost as reason:
            self._journal.write("stopped", reason=str(reason))
            self.system_panic(str(reason), fl_ctx)
        except RunAborted:
            self._journal.write("stopped", reason="aborted")

    def _run(self) -> None:
        self._journal.write(
            "start",
            method=self._config.method,
            sites=self._sites.names,
            rounds=self._config.federation.rounds,
            segments=self._config.total_segments,
            seed=self._config.seed,
        )
        adapter = self._welcome()
        for number in range(self._config.federation.rounds):
            adapter = self._run_round(number, adapter)
        self._journal.write(
            "end", late=self._late, asking_seconds=self._sites.asking_seconds, site_seconds=self._sites.seconds
        )

    def _welcome(self) -> Adapter:
        """Measure the base model, learn the adapter's shapes (the sites must agree), draw the one initial adapter."""
        self._sites.begin_round()
        specs = self._validate("base", 0, split=True, check=lambda data: (check_scores(data), check_spec(data)))
        texts = Counter(json.dumps(spec, sort_keys=True) for _, spec in specs.values())
        agreed = json.loads(texts.most_common(1)[0][0])
        for site, (_, spec) in specs.items():
            if spec != agreed:
                self._sites.fail(site, "validate", "its adapter has other tensors or shapes than most sites'")
        self._sites.check_quorum()
        self._spec = dict(sorted(agreed.items()))
        return initial_adapter(self._spec, self._config.seed)

    def _run_round(self, number: int, start: Adapter) -> Adapter:
        self._sites.begin_round()
        self._round, began = number, time.monotonic()
        broadcast = start if self._method.average or number == 0 else None
        for index, leg in enumerate(plan_round(self._config, number, self.public_ids)):
            self._train(leg, begin_round=index == 0, adapter=broadcast if index == 0 else None)
            if leg.exchange:
                self._exchange(leg)
            if leg.evaluate:
                self._validate("local", leg.last.index, samples=self._config.evaluation.curve_samples)
        last = (number + 1) * self._config.federation.segments_per_round - 1
        self._validate("local", last)
        if not self._method.average:
            return start
        adapter = self._average(start, last)
        write_adapter(self._folder / "rounds" / str(number), adapter, self._config.lora, self._config.model)
        self._journal.write("round", round=number, seconds=time.monotonic() - began)
        self._validate("global", last, adapter=adapter, split=True)
        return adapter

    def _train(self, leg: Leg, begin_round: bool, adapter: Adapter | None) -> None:
        segments = [asdict(segment) for segment in leg.segments]
        spec = spec_hash(self._spec, self._config.lora)
        instructions = {
            "segments": segments,
            "exchange": leg.exchange,
            "begin_round": begin_round,
            "adapter_spec": spec,
        }
        self._write_steps(self._ask_all("train", leg.last.index, instructions, check_steps, adapter))

    def _exchange(self, leg: Leg) -> None:
        """Collect verified answers, pool them per receiver, and let every site take its public step on the mix."""
        instructions = {"segments": [asdict(leg.last)]}
        asked = set(leg.last.public_ids)
        limit = self._config.exchange.max_per_site * len(leg.last.public_ids)
        # A site may keep its answers to itself: without them it is still a receiver, and still in the round.
        proposals = self._ask_all(
            "propose",
            leg.last.index,
            instructions,
            lambda data: check_responses(data.get("responses"), asked, limit, VARIANTS),
            optional=True,
        )
        offers = [
            PublicResponse(problem_id, text, site, variant)
            for site, records in proposals.items()
            for problem_id, text, variant in records
        ]
        pools = {site: pool_for(site, offers, self._config.exchange) for site in self._sites.active}
        place = self._envelope(leg.last.index)
        messages = {site: request(place, instructions, responses=pool) for site, pool in pools.items()}
        self._write_steps(self._sites.ask("swap", messages, check_steps))
        self._journal.write(
            "exchange",
            segment=leg.last.index,
            offered=len(offers),
            bytes_up={site: response_bytes([o for o in offers if o.site == site]) for site in proposals},
            bytes_down={site: response_bytes(pool) for site, pool in pools.items()},
        )

    def _average(self, start: Adapter, segment: int) -> Adapter:
        """The next adapter from every update that passes the guard; one that does not is refused whole."""
        limit = self._config.federation.max_update_norm
        deltas = self._ask_all("submit", segment, {}, lambda delta: check_adapter(delta, self._spec, limit))
        updates = [SiteUpdate(site, delta) for site, delta in deltas.items()]
        adapter = AGGREGATORS[self._config.federation.aggregator](start, updates)
        self._journal.write(
            "average",
            round=self._round,
            sites=list(deltas),
            bytes_up={site: adapter_bytes(delta) for site, delta in deltas.items()},
            **drift(start, updates),
        )
        return check_adapter(adapter, self._spec)

    def _validate(
        self,
        which: str,
        segment: int,
        adapter: Adapter | None = None,
        samples: int | None = None,
        split: bool = False,
        check: Callable[[dict], Any] = check_scores,
    ) -> dict[str, Any]:
        """pass@k at every site: of its own adapter (`local`), or of a shared one, the test set `split` between them."""
        active = list(self._sites.active)
        samples = samples or self._config.evaluation.samples
        messages = {}
        for i, site in enumerate(active):
            share = [i, len(active)] if split else None
            instructions = {"samples": samples, "share": share, "name": f"{which} {segment}"}
            messages[site] = self._request(site, segment, instructions, adapter)
        answers = self._sites.ask("validate", messages, check)
        scores = {site: answer[0] if isinstance(answer, tuple) else answer for site, answer in answers.items()}
        self._journal.write(
            "evaluation", which=which, round=self._round, segment=segment, samples=samples, scores=scores
        )
        return answers

    def _ask_all(
        self,
        task: str,
        segment: int,
        instructions: dict,
        check: Callable[[dict], Any],
        adapter: Adapter | None = None,
        optional: bool = False,
    ) -> dict[str, Any]:
        messages = {site: self._request(site, segment, instructions, adapter) for site in self._sites.active}
        return self._sites.ask(task, messages, check, optional)

    def _request(self, site: str, segment: int, instructions: dict, adapter: Adapter | None) -> Shareable:
        if adapter is not None:
            self._journal.write("adapter_down", bytes={site: adapter_bytes(adapter)})
        return request(self._envelope(segment), instructions, adapter)

    def _envelope(self, segment: int) -> dict:
        return envelope(self.manifest, self._round, segment)

    def _write_steps(self, answers: dict[str, list[dict]]) -> None:
        for site, records in answers.items():
            for record in records:
                self._journal.write("step", round=self._round, site=site, **record)
