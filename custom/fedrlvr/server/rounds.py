"""The rounds of a run, each readable as a paragraph. What they decide is in `algorithms/`; how they ask, in
`sites.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nvflare.apis.shareable import Shareable

from fedrlvr.algorithms.aggregate import AGGREGATORS
from fedrlvr.algorithms.drift import drift
from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.algorithms.methods import METHODS
from fedrlvr.algorithms.pool import pool_for
from fedrlvr.algorithms.schedule import Phase, plan_round
from fedrlvr.config import JobConfig
from fedrlvr.flare.messages import adapter_bytes, envelope, request, response_bytes
from fedrlvr.privacy.guards import check_adapter, check_responses
from fedrlvr.privacy.reports import check_base_model, check_scores, check_spec, check_steps
from fedrlvr.server.adapter_folder import write_adapter
from fedrlvr.server.agreement import agreement
from fedrlvr.server.client_manager import Sites
from fedrlvr.server.event_log import EventLog
from fedrlvr.server.round_store import CompletedRound, RunStore
from fedrlvr.tasks.task import VARIANTS
from fedrlvr.types import Adapter, PublicResponse, SiteUpdate


@dataclass
class Rounds:
    """Runs every method of `METHODS`; they differ in what `plan_round` plans and in whether adapters are averaged.

    `folder` is the job's own, in which each round's adapter is left; `store` outlives the job.
    """

    config: JobConfig
    public_ids: list[str]
    manifest: str
    sites: Sites
    event_log: EventLog
    store: RunStore
    folder: Path

    def __post_init__(self):
        self._method = METHODS[self.config.method]
        self._round = 0

    def run(self, kept: CompletedRound | None, run: str) -> None:
        """All rounds, or those after `kept`; `run` is the run's name.

        Raises:
            QuorumLost, RunAborted: as `Sites`.
            Refused: what was kept is no adapter of the model that the sites have.
            OSError: something cannot be written. What was written before is whole.
        """
        self.event_log.write(
            "resumed" if kept else "start",
            method=self.config.method,
            sites=self.sites.names,
            rounds=self.config.federation.rounds,
            segments=self.config.total_segments,
            seed=self.config.seed,
            run=run,
            **({"after": kept.number, "skipped": kept.skipped} if kept else {}),
        )
        self.sites.begin_round()
        adapter, first = self._welcome_back(kept) if kept else (self._welcome(), 0)
        for number in range(first, self.config.federation.rounds):
            adapter = self._run_round(number, adapter)
        self.event_log.write("end", asking_seconds=self.sites.asking_seconds, site_seconds=self.sites.seconds)

    def _welcome(self) -> Adapter:
        """Measure the base model, learn the adapter's shapes, draw the one initial adapter."""
        self._agree(self._validate("base", 0, split=True, check=_scores_and_model, before_the_first=True))
        return initial_adapter(self._spec, self.config.seed)

    def _welcome_back(self, kept: CompletedRound) -> tuple[Adapter, int]:
        """Measure what the run had come to, which the job that did so may not have lived to do."""
        self._round, last = kept.number, self._last_segment(kept.number)
        which, segment = ("global", last) if self._method.average else ("base", 0)
        if self._method.average:  # this job's own folder may come to hold no other
            self._leave(kept.number, kept.adapter)
        answers = self._validate(which, segment, adapter=kept.adapter, split=True, check=_scores_and_model)
        self._agree(answers)
        return check_adapter(kept.adapter, self._spec), kept.number + 1

    def _agree(self, answers: dict[str, tuple[dict, str, dict]]) -> None:
        agreed, dissenters = agreement({site: (model, spec) for site, (_, model, spec) in answers.items()})
        for site, reason in dissenters.items():
            self.sites.fail(site, "validate", reason)
        self.sites.check_quorum()
        self._spec = agreed

    def _last_segment(self, number: int) -> int:
        return (number + 1) * self.config.federation.segments_per_round - 1

    def _run_round(self, number: int, start: Adapter) -> Adapter:
        self.sites.begin_round()
        self._round, began, last = number, time.monotonic(), self._last_segment(number)
        for index, phase in enumerate(plan_round(self.config, number, self.public_ids)):
            back = [] if index == 0 else self._take_back(phase.segments[0].index)
            self._train(phase, index == 0, start, back)
            if phase.exchange:
                self._exchange(phase)
            if phase.evaluate:
                self._validate("local", phase.last.index, samples=self.config.evaluation.curve_samples)
        self._take_back(last)
        self._validate("local", last)
        adapter = self._average(start, last) if self._method.average else start
        self.sites.check_quorum(with_returning=not self._method.average)
        self._keep(number, adapter, began)
        if self._method.average:
            self._validate("global", last, adapter=adapter, split=True)
        return adapter

    def _take_back(self, segment: int) -> list[str]:
        back = self.sites.begin_segment()
        if back:
            self.event_log.write("back", round=self._round, segment=segment, sites=back)
        return back

    def _keep(self, number: int, adapter: Adapter, began: float) -> None:
        """From here on the round is done, whatever happens."""
        if self._method.average:
            self._leave(number, adapter)
        self.event_log.write("round", round=number, seconds=time.monotonic() - began)
        self.store.save(number, adapter, self.event_log.path)

    def _leave(self, number: int, adapter: Adapter) -> None:
        write_adapter(self.folder / "rounds" / str(number), adapter, self.config.lora, self.config.model)

    def _train(self, phase: Phase, begin_round: bool, start: Adapter, back: list[str]) -> None:
        """Every site works through the phase. `start` is the round's first adapter; a site that is `back` gets it,
        too, as its worker may have nothing of this round."""
        instructions = {
            "segments": [asdict(segment) for segment in phase.segments],
            "exchange": phase.exchange,
            "begin_round": begin_round,
            "adapter_spec": spec_hash(self._spec, self.config.lora),
        }
        given = begin_round and (self._method.average or self._round == 0)
        messages = {
            site: self._request(site, phase.last.index, instructions, start if given or site in back else None)
            for site in self.sites.active
        }
        self._write_steps(self.sites.ask("train", messages, check_steps))

    def _exchange(self, phase: Phase) -> None:
        """Collect verified answers, pool them per receiver, and let every site take its public step on the mix."""
        index, instructions, asked = phase.last.index, {"segments": [asdict(phase.last)]}, set(phase.last.public_ids)
        limit = self.config.exchange.max_per_site * len(phase.last.public_ids)

        def check(data: dict) -> list:
            return check_responses(data.get("responses"), asked, limit, VARIANTS)

        # A site may keep its answers to itself: without them it is still a receiver, and still in the round.
        proposals = self._ask_all("propose", index, instructions, check, optional=True)
        offers = [
            PublicResponse(problem_id, text, site, variant)
            for site, records in proposals.items()
            for problem_id, text, variant in records
        ]
        pools = {site: pool_for(site, offers, self.config.exchange) for site in self.sites.active}
        messages = {site: self._request(site, index, instructions, responses=pool) for site, pool in pools.items()}
        self._write_steps(self.sites.ask("swap", messages, check_steps))
        self.event_log.write(
            "exchange",
            segment=index,
            offered=len(offers),
            bytes_up={site: response_bytes([o for o in offers if o.site == site]) for site in proposals},
            bytes_down={site: response_bytes(pool) for site, pool in pools.items()},
        )

    def _average(self, start: Adapter, segment: int) -> Adapter:
        """The next adapter from every update that passes the guard; one that does not is refused whole."""
        limit = self.config.federation.max_update_norm
        self._take_back(segment)
        deltas = self._ask_all("submit", segment, {}, lambda delta: check_adapter(delta, self._spec, limit))
        self.sites.check_quorum()
        updates = [SiteUpdate(site, delta) for site, delta in deltas.items()]
        adapter = AGGREGATORS[self.config.federation.aggregator](start, updates)
        self.event_log.write(
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
        before_the_first: bool = False,
    ) -> dict[str, Any]:
        """pass@k at every site: of its own adapter (`local`), or of a shared one, the test set `split` between them;
        `before_the_first` round: of the base model."""
        active = list(self.sites.active)
        samples = samples or self.config.evaluation.samples
        messages = {}
        for i, site in enumerate(active):
            share = [i, len(active)] if split else None
            instructions = {"samples": samples, "share": share, "name": f"{which} {segment}"}
            if before_the_first:
                instructions["round"] = -1
            messages[site] = self._request(site, segment, instructions, adapter)
        answers = self.sites.ask("validate", messages, check)
        scores = {site: answer[0] if isinstance(answer, tuple) else answer for site, answer in answers.items()}
        if scores:
            self.event_log.write(
                "evaluation", which=which, round=self._round, segment=segment, samples=samples, scores=scores
            )
        return answers

    def _ask_all(
        self, task: str, segment: int, instructions: dict, check: Callable[[dict], Any], optional: bool = False
    ) -> dict[str, Any]:
        messages = {site: self._request(site, segment, instructions) for site in self.sites.active}
        return self.sites.ask(task, messages, check, optional)

    def _request(
        self,
        site: str,
        segment: int,
        instructions: dict,
        adapter: Adapter | None = None,
        responses: list[PublicResponse] | None = None,
    ) -> Shareable:
        if adapter is not None:
            self.event_log.write("adapter_down", bytes={site: adapter_bytes(adapter)})
        place = envelope(self.manifest, self._round, segment)
        return request(place, {"round": self._round, **instructions}, adapter, responses)

    def _write_steps(self, answers: dict[str, list[dict]]) -> None:
        for site, records in answers.items():
            for record in records:
                self.event_log.write("step", round=self._round, site=site, **record)


def _scores_and_model(data: dict) -> tuple[dict, str, dict]:
    return check_scores(data), check_base_model(data), check_spec(data)
