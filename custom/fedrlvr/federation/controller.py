"""The server's workflow: the round, readable as a paragraph. What it decides is in `algorithms/`; how it asks, in
`sites.py`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import torch
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from fedrlvr.algorithms.aggregate import AGGREGATORS
from fedrlvr.algorithms.drift import drift
from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.algorithms.methods import METHODS
from fedrlvr.algorithms.pool import pool_for
from fedrlvr.algorithms.schedule import Leg, plan_round
from fedrlvr.config import JobConfig
from fedrlvr.federation.checkpoint import write_adapter
from fedrlvr.federation.journal import Journal
from fedrlvr.federation.messages import adapter_bytes, envelope, request, response_bytes
from fedrlvr.federation.sites import QuorumLost, RunAborted, Sites
from fedrlvr.privacy.guards import Refused, check_adapter, check_responses
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
        self._late = 0

    def stop_controller(self, fl_ctx: FLContext) -> None:
        self._journal.close()

    def process_result_of_unknown_task(self, client, task_name, client_task_id, result, fl_ctx) -> None:
        self._late += 1
        self._journal.write("late", site=client.name, task=task_name, count=self._late)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        names = sorted(client.name for client in fl_ctx.get_engine().get_clients())
        self._sites = Sites(
            self,
            fl_ctx,
            abort_signal,
            names,
            self._config.federation.min_sites,
            self._config.federation.step_deadline,
            lambda **failure: self._journal.write("failure", **failure),
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
        """Measure the base model, learn the adapter's shapes (all sites must agree), and draw the one initial
        adapter."""
        self._sites.begin_round()
        answers = self._validate("base", round_number=0, segment=0, split=True)
        specs = {site: answer.get("adapter_spec") for site, answer in answers.items()}
        agreed = next(iter(specs.values()))
        for site, spec in specs.items():
            if spec != agreed:
                self._sites.fail(
                    site, "validate", f"its adapter has other tensors or shapes than that of {next(iter(specs))}"
                )
        self._sites.check_quorum()
        self._spec = agreed
        return initial_adapter(agreed, self._config.seed)

    def _run_round(self, number: int, start: Adapter) -> Adapter:
        self._sites.begin_round()
        self._round, began = number, time.monotonic()
        broadcast = start if self._method.average or number == 0 else None
        for index, leg in enumerate(plan_round(self._config, number, self.public_ids)):
            self._train(leg, begin_round=index == 0, adapter=broadcast if index == 0 else None)
            if leg.exchange:
                self._exchange(leg)
            if leg.evaluate:
                self._validate("local", number, leg.last.index, samples=self._config.evaluation.curve_samples)
        last = (number + 1) * self._config.federation.segments_per_round - 1
        self._validate("local", number, last)
        if not self._method.average:
            return start
        adapter = self._average(start, self._submitted(last))
        write_adapter(self._folder / "rounds" / str(number), adapter, self._config.lora, self._config.model)
        self._journal.write("round", round=number, seconds=time.monotonic() - began)
        self._validate("global", number, last, adapter=adapter, split=True)
        return adapter

    def _train(self, leg: Leg, begin_round: bool, adapter: Adapter | None) -> None:
        instructions = {
            "segments": [asdict(s) for s in leg.segments],
            "exchange": leg.exchange,
            "begin_round": begin_round,
        }
        answers = self._ask_all("train", leg.last.index, instructions, adapter)
        self._write_steps(answers)
        if adapter is not None:
            self._journal.write("adapter_down", bytes={site: adapter_bytes(adapter) for site in answers})

    def _exchange(self, leg: Leg) -> None:
        """Collect verified answers, pool them per receiver, and let every site take its public step on the mix."""
        instructions = {"segments": [asdict(leg.last)]}
        offers: list[PublicResponse] = []
        sent_up, sent_down = {}, {}
        for site, answer in self._ask_all("propose", leg.last.index, instructions).items():
            try:
                limit = self._config.exchange.max_per_site * len(leg.last.public_ids)
                records = check_responses(answer.get("responses"), set(leg.last.public_ids), limit)
            except Refused as reason:
                self._sites.fail(site, "propose", str(reason))
                continue
            responses = [PublicResponse(problem_id, text, site) for problem_id, text in records]
            sent_up[site] = response_bytes(responses)
            offers += responses
        self._sites.check_quorum()
        messages = {}
        for site in self._sites.active:
            pool = pool_for(site, offers, self._config.exchange)
            sent_down[site] = response_bytes(pool)
            messages[site] = request(self._envelope(leg.last.index), instructions, responses=pool)
        self._write_steps(self._sites.ask("swap", messages))
        self._journal.write(
            "exchange", segment=leg.last.index, offered=len(offers), bytes_up=sent_up, bytes_down=sent_down
        )

    def _submitted(self, segment: int) -> list[SiteUpdate]:
        """Every site's update that passes the guard. One that does not is refused whole, and its site is out of the
        round."""
        updates = []
        for site, delta in self._ask_all("submit", segment, {}).items():
            try:
                check_adapter(delta, self._spec, self._config.federation.max_update_norm)
            except Refused as reason:
                self._sites.fail(site, "submit", str(reason))
                continue
            updates.append(SiteUpdate(site, delta))
        self._sites.check_quorum()
        return updates

    def _average(self, start: Adapter, updates: list[SiteUpdate]) -> Adapter:
        adapter = AGGREGATORS[self._config.federation.aggregator](start, updates)
        check_adapter(adapter, self._spec)
        self._journal.write(
            "average",
            round=self._round,
            sites=[u.site for u in updates],
            **drift(start, updates),
            bytes_up={u.site: adapter_bytes(u.delta) for u in updates},
        )
        return adapter

    def _validate(
        self,
        which: str,
        round_number: int,
        segment: int,
        adapter: Adapter | None = None,
        samples: int | None = None,
        split: bool = False,
    ) -> dict[str, dict]:
        """pass@k at every site: of its own adapter (`local`), or of one they share, the test set `split` between
        them."""
        self._round = round_number
        active = list(self._sites.active)
        samples = samples or self._config.evaluation.samples
        messages = {}
        for i, site in enumerate(active):
            instructions = {
                "samples": samples,
                "share": [i, len(active)] if split else None,
                "name": f"{which} {segment}",
            }
            messages[site] = request(self._envelope(segment), instructions, adapter)
        answers = self._sites.ask("validate", messages)
        self._journal.write(
            "evaluation",
            which=which,
            round=round_number,
            segment=segment,
            samples=samples,
            scores={site: answer["scores"] for site, answer in answers.items()},
        )
        return answers

    def _ask_all(self, task: str, segment: int, instructions: dict, adapter: Adapter | None = None) -> dict[str, dict]:
        messages: dict[str, Shareable] = {
            site: request(self._envelope(segment), instructions, adapter) for site in self._sites.active
        }
        return self._sites.ask(task, messages)

    def _envelope(self, segment: int) -> dict:
        return envelope(self.manifest, self._round, segment)

    def _write_steps(self, answers: dict[str, dict]) -> None:
        for answer in answers.values():
            for metrics in answer["metrics"]:
                self._journal.write("step", round=self._round, **metrics)
