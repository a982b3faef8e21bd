"""The rounds of a run, each readable as a paragraph; `custom/README.md` draws one. What they decide is in
`algorithms/`; how they ask, in `client_manager.py`.

Every request goes to all active sites at once, and the server waits for all of them: no site is a phase ahead of
another (`own_pace.py` has rounds in which they may be). Between two submits the adapters stay at the sites; only right
answers to public problems travel.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedrlvr.algorithms.aggregate import AGGREGATORS, drift
from fedrlvr.algorithms.findings import need
from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.algorithms.methods import METHODS
from fedrlvr.algorithms.pool import pool_for
from fedrlvr.algorithms.right_shares import mean_shares
from fedrlvr.algorithms.schedule import Phase, own_problems, plan_round, planned_steps
from fedrlvr.algorithms.server_optimizer import Moments, moments_spec, server_step
from fedrlvr.peft_folder import Origin
from fedrlvr.protocol.adapters import adapter_hash, check_adapter, check_tensors, check_unmoved, payload_size
from fedrlvr.protocol.answers import ProposeAnswer, StepsAnswer, SubmitAnswer, ValidateAnswer
from fedrlvr.protocol.records import Envelope, Findings, PooledResponse, PublicResponse
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import ProposeRequest, Request, SubmitRequest, SwapRequest, TrainRequest, ValidateRequest
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.server.adapter_folder import read_adapter, write_adapter
from fedrlvr.server.agreement import agree_on_model
from fedrlvr.server.answer_checks import check_findings, check_proposal, check_scores, check_steps
from fedrlvr.server.client_manager import ClientManager, Message
from fedrlvr.server.event_log import EventLog
from fedrlvr.server.round_store import CompletedRound, RoundStore
from fedrlvr.types import Adapter


@dataclass
class Rounds:
    """Runs every method of `METHODS`; they differ in what `plan_round` plans and in whether adapters are averaged.

    `folder` is the job's own, in which each round's adapter is left; `store` outlives the job. `start_from` is the PEFT
    directory of the first adapter; None: one that changes nothing.
    """

    spec: RunSpec
    sites: ClientManager
    log: EventLog
    store: RoundStore
    folder: Path
    start_from: Path | None = None

    def __post_init__(self):
        self.config = self.spec.job
        self._method = METHODS[self.config.method]
        self._round, self._base_model = -1, None  # before the first
        self._public = set(self.spec.public_ids)
        self._findings: dict[str, Findings] = {}
        self._withheld: dict[str, set[str]] = defaultdict(set)  # problems that a site had answers to, and kept them
        self._moments: Moments = {}  # of the server's optimizer, after the last average
        self._have: set[str] = set()  # the sites that measured the averaged adapter, and so have it

    def run(self, kept: CompletedRound | None) -> None:
        """All rounds, or those after `kept`.

        Raises:
            QuorumLost, RunAborted: as `ClientManager`.
            SettingsError, Refused: what was kept, or what `start_from` names, is no adapter of the sites' model.
            OSError: something cannot be written. What was written before is whole.
        """
        self.log.write(
            "resumed" if kept else "start",
            method=self.config.method,
            sites=self.sites.names,
            rounds=self.config.federation.rounds,
            segments=self.config.total_segments,
            steps=planned_steps(self.config),
            seed=self.config.seed,
            run=self.spec.run,
            **({"after": kept.number, "skipped": kept.skipped} if kept else {}),
        )
        self.sites.begin_round()
        adapter, first = self._continue_after(kept) if kept else (self._first_adapter(), 0)
        for number in range(first, self.config.federation.rounds):
            adapter = self._run_round(number, adapter)
        self.log.write("end", asking_seconds=self.sites.asking_seconds, site_seconds=self.sites.seconds)

    def _first_adapter(self) -> Adapter:
        """Measure the base model, learn the adapter's shapes, draw the one initial adapter or take the given one."""
        given = self.start_from and read_adapter(self.start_from, self.config.lora)
        self._agree(self._validate("base", 0))
        if given is None:
            return initial_adapter(self._adapter_spec, self.config.seed)
        try:
            return check_adapter(given, self._adapter_spec)
        except Refused as reason:
            raise Refused(
                f"start_from: {self.start_from} is no adapter of this job's model and lora: {reason}"
            ) from None

    def _continue_after(self, kept: CompletedRound) -> tuple[Adapter, int]:
        """Measure what the kept round came to: the job that ended with it may not have lived to do so."""
        self._round, last = kept.number, self._last_segment(kept.number)
        which, segment = "base", 0
        if self._method.average:
            which, segment = "global", last
            self._leave(kept.number, kept.adapter)  # this job's own folder may come to hold no other
        self._agree(self._validate(which, segment, kept.adapter))
        if self._method.average:
            self._moments = dict(check_tensors(kept.moments, moments_spec(self._adapter_spec, self.config.federation)))
        return check_adapter(kept.adapter, self._adapter_spec), kept.number + 1

    def _agree(self, answers: Mapping[str, ValidateAnswer]) -> None:
        self._adapter_spec, dissenters = agree_on_model(answers)
        self._base_model = next((a.base_model for site, a in answers.items() if site not in dissenters), None)
        for site, reason in dissenters.items():
            leave_out = self.sites.fail if answers[site].base_model == self._base_model else self.sites.exclude
            leave_out(site, "validate", reason)
        self.sites.check_quorum()

    def _last_segment(self, number: int) -> int:
        return (number + 1) * self.config.federation.segments_per_round - 1

    def _run_round(self, number: int, start: Adapter) -> Adapter:
        self.sites.begin_round()
        self._round, began, last = number, self.sites.transport.now(), self._last_segment(number)
        self._work_through(plan_round(self.config, number, list(self.spec.public_ids)), start)
        self._take_back(last)
        self._validate("local", last)
        adapter = self._average(start, last) if self._method.average else start
        self.sites.check_quorum(with_returning=not self._method.average)
        if self._method.average:
            self._leave(number, adapter)
        self.log.write("round", round=number, seconds=self.sites.transport.now() - began)
        # From here on the round is done, whatever happens.
        self.store.save(number, adapter, self.log.path, self.sites.receipts, self._moments)
        if self._method.average:
            self._validate("global", last, adapter)
        return adapter

    def _work_through(self, phases: Sequence[Phase], start: Adapter) -> None:
        """All that the sites do between two averages, together: no site is a phase ahead of another."""
        # Of this round alone, so that a resumed run decides as a whole one.
        self._findings, self._exchanges = {}, 0
        self._withheld.clear()
        for index, phase in enumerate(phases):
            back = [] if index == 0 else self._take_back(phase.segments[0].index)
            phase, wanted = self._decided(phase)
            self._train(phase, index == 0, start, back)
            if phase.exchange:
                self._exchange(phase, wanted)
            if phase.evaluate:
                self._validate("local", phase.last.index, samples=self.config.evaluation.curve_samples)

    def _decided(self, phase: Phase) -> tuple[Phase, list[str]]:
        """The phase with or without an exchange, and the problems that it is about where the schedule is adaptive."""
        exchange = self.config.exchange
        if not (phase.exchange and exchange.schedule == "adaptive"):
            return phase, []
        told = {site: self._findings[site] for site in self.sites.active if site in self._findings}
        if phase.segments[0].index % self.config.federation.segments_per_round == 1 and len(told) < 2:
            self.log.write("undecided", round=self._round, told=list(told))
        wanted, share = need(told, len(self.spec.public_ids))
        spent = exchange.most_exchanges is not None and self._exchanges >= exchange.most_exchanges
        pays = bool(wanted) and share >= exchange.worth and not spent
        self._exchanges += pays
        return replace(phase, exchange=pays), wanted

    def _take_back(self, segment: int) -> list[str]:
        back = self.sites.begin_segment()
        if back:
            self.log.write("back", round=self._round, segment=segment, sites=back)
        return back

    def _leave(self, number: int, adapter: Adapter) -> None:
        origin = Origin(base_model=self.config.model, fingerprint=self.spec.base_model or self._base_model)
        write_adapter(self.folder / "rounds" / str(number), adapter, self.config.lora, origin)

    def _train(self, phase: Phase, begin_round: bool, start: Adapter, back: list[str]) -> None:
        """Every site works through the phase. `start` is the round's first adapter, which a site gets unless it has it
        from being measured. One that is `back` gets it, too, as its worker may have nothing of this round."""
        request = self._train_request(phase, begin_round, start)
        given = set(self.sites.active) - self._have if request.start else back
        messages = {s: self._message(s, request, start if s in given else None) for s in self.sites.active}
        self._write_steps(self.sites.ask(messages, self._fitting_steps))

    def _train_request(self, phase: Phase, begin_round: bool, start: Adapter) -> TrainRequest:
        begins_from_it = begin_round and (self._method.average or self._round == 0)
        return TrainRequest(
            envelope=self._envelope(phase.last.index),
            segments=list(phase.segments),
            exchange=phase.exchange,
            begin_round=begin_round,
            adapter_spec=spec_hash(self._adapter_spec, self.config.lora),
            start=adapter_hash(start) if begins_from_it else "",
        )

    def _exchange(self, phase: Phase, wanted: list[str]) -> None:
        """Collect right answers, to the `wanted` problems or else to those of the segment, pool them for each receiver,
        and let every site take its public step on the mix."""
        segment, envelope = phase.last, self._envelope(phase.last.index)
        # A site may keep its answers to itself: without them it is still a receiver, and still in the round.
        propose = ProposeRequest(envelope=envelope, segment=segment, wanted=wanted)
        told = self._ask_all(propose, self._fitting_proposal, optional=True)
        offers = {site: answer.responses for site, answer in told.items()}
        for site, findings in self._findings.items():
            offered = {response.problem_id for response in offers.get(site, ())}
            self._withheld[site] |= ({*findings.found} & {*wanted}) - offered
        about = {
            "envelope": envelope,
            "segment": segment,
            "targets": mean_shares(answer.shares or {} for answer in told.values()),
        }
        pools = {site: pool_for(site, offers, self.config.exchange) for site in self.sites.active}
        requests = {site: SwapRequest(**about, responses=pool) for site, pool in pools.items()}
        messages = {site: Message(request) for site, request in requests.items()}
        self._write_steps(self.sites.ask(messages, self._fitting_steps))
        self._write_exchange(segment.index, offers, pools)

    def _average(self, start: Adapter, segment: int) -> Adapter:
        """The next adapter from every update that passes the check; one that does not is refused whole."""
        federation = self.config.federation
        aggregator = AGGREGATORS[federation.aggregator]
        frozen = aggregator.frozen(self._adapter_spec, self._round)

        def check(request: SubmitRequest, answer: SubmitAnswer, delta: Adapter | None) -> Adapter:
            return check_unmoved(check_adapter(delta or {}, self._adapter_spec, federation.max_update_norm), frozen)

        self._take_back(segment)
        deltas = self._ask_all(SubmitRequest(envelope=self._envelope(segment)), check)
        self.sites.check_quorum()
        updates, work = list(deltas.values()), self._work_of(deltas)
        average = aggregator(start, updates, federation, list(work.values()))
        adapter, self._moments = server_step(start, average, self._moments, federation)
        self.log.write(
            "average",
            round=self._round,
            sites=list(deltas),
            bytes_up={site: payload_size(delta) for site, delta in deltas.items()},
            **({"work": work} if work else {}),
            **drift(start, updates),
        )
        return check_adapter(adapter, self._adapter_spec)

    def _work_of(self, sites: Iterable[str]) -> dict[str, int]:
        """Updates weigh by the segments in which each site trained. Where this is empty, they weigh the same."""
        return {}

    def _validate(self, which: str, segment: int, adapter: Adapter | None = None, samples: int | None = None) -> dict:
        """Every site's `ValidateAnswer` with pass@k of its own adapter (`local`), on the same problems at all, or of
        one that all have, the test set then split between them."""
        active, samples = list(self.sites.active), samples or self.config.evaluation.samples
        about = {"envelope": self._envelope(segment), "samples": samples, "name": f"{which} {segment}"}
        if which == "local":
            about["problems"] = own_problems(self.config, segment)
        messages = {}
        for i, site in enumerate(active):
            share = None if which == "local" else (i, len(active))
            messages[site] = self._message(site, ValidateRequest(**about, share=share), adapter)
        answers = self.sites.ask(messages, self._fitting_scores)
        self._have = set(answers) if which == "global" else set()
        self._write_evaluation(which, segment, samples, answers)
        return answers

    def _fitting_scores(self, request: ValidateRequest, answer: ValidateAnswer, _) -> ValidateAnswer:
        """Raises Refused for scores that do not fit the share, and for a site that was not there when the others
        agreed, and has another base model."""
        if self._base_model not in (None, answer.base_model):
            raise Refused(f"base model differs: most sites have {self._base_model}, this one {answer.base_model}")
        check_scores(answer.scores, request, self.spec.test_labels, self.config.evaluation.k)
        return answer

    def _ask_all(self, request: Request, check, optional: bool = False) -> dict:
        return self.sites.ask({site: Message(request) for site in self.sites.active}, check, optional)

    def _message(self, site: str, request: Request, adapter: Adapter | None) -> Message:
        if adapter is not None:
            self.log.write("adapter_down", bytes={site: payload_size(adapter)})
        return Message(request, adapter)

    def _envelope(self, segment: int) -> Envelope:
        return Envelope.here(self.spec.public_sha256, self._round, segment)

    def _fitting_proposal(self, request: ProposeRequest, answer: ProposeAnswer, _) -> ProposeAnswer:
        check_proposal(answer, request, self.config)
        return answer

    def _fitting_steps(self, request: TrainRequest | SwapRequest, answer: StepsAnswer, _) -> StepsAnswer:
        check_steps(answer.steps, request, self.config)
        check_findings(answer.findings, self._public, self.config)
        return answer

    def _write_exchange(
        self,
        segment: int,
        offers: Mapping[str, Sequence[PublicResponse]],
        pools: Mapping[str, Sequence[PooledResponse]],
    ) -> None:
        """`offers`: how many answers of which site, by problem. `pools`: how many each site got of each other one."""
        problems = {site: Counter(response.problem_id for response in offered) for site, offered in offers.items()}
        self.log.write(
            "exchange",
            segment=segment,
            offers=problems,
            pools={receiver: Counter(sender for sender, _ in pool) for receiver, pool in pools.items()},
            offered=sum(map(len, offers.values())),
            bytes_up={site: _bytes(responses) for site, responses in offers.items()},
            bytes_down={site: _bytes(response for _, response in pool) for site, pool in pools.items()},
        )

    def _write_evaluation(self, which: str, segment: int, samples: int, answers: Mapping[str, ValidateAnswer]) -> None:
        scores = {site: answer.scores.model_dump(exclude_none=True) for site, answer in answers.items()}
        if scores:
            place = {"round": self._round, "segment": segment}
            self.log.write("evaluation", which=which, **place, samples=samples, scores=scores)

    def _write_steps(self, answers: Mapping[str, StepsAnswer]) -> None:
        for site, answer in answers.items():
            if answer.findings:  # what it was asked for and did not offer would not come the next time either
                found = [name for name in answer.findings.found if name not in self._withheld[site]]
                self._findings[site] = answer.findings.model_copy(update={"found": found})
        for site, answer in answers.items():
            for step in answer.steps:
                place = step.model_dump(exclude={"metrics"})
                self.log.write("step", round=self._round, site=site, **place, **step.metrics)


def _bytes(responses) -> int:
    """Of ids and texts, and 4 of each log-probability."""
    return sum(len(r.problem_id.encode()) + len(r.text.encode()) + 4 * len(r.logprobs) for r in responses)
