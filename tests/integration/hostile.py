"""A site that does not play by the rules: everything it sends is spoiled on its way, one trick after another."""

from collections.abc import Callable

import torch
from nvflare.apis.dxo import from_shareable
from nvflare.apis.shareable import Shareable

from fedrlvr.flare.messages import pack_answer, unpack_answer
from fedrlvr.launch.local import LocalTask, LocalTransport
from fedrlvr.server.client_manager import Message


class SpoilingTransport(LocalTransport):
    """`spoil(site, task, request, FLARE's message)` may change what a site sends."""

    def __init__(self, agents, spoil: Callable[[str, str, Message, Shareable], None]):
        super().__init__(agents)
        self._spoil = spoil

    def send(self, site, message, timeout, changed):
        answered, task = super().send(site, message, timeout, changed), message.request.task
        sent = pack_answer(task, *answered.reply())
        self._spoil(site, task, message, sent)
        return LocalTask(lambda: unpack_answer(task, sent))  # read as the server reads one of FLARE


class Spoil:
    """At `site`, `plan` maps "task/round", or "propose/segment", to the name of a method below; where it says nothing,
    updates are NaN and every answer claims to be right and is not. `asked` are the ids that such lies are about."""

    def __init__(self, site: str, plan: dict, asked: list):
        self.site, self.plan, self.asked = site, plan, asked

    def __call__(self, site: str, task: str, request: Message, message: Shareable) -> None:
        envelope = message.get_header("fedrlvr.envelope")
        if envelope is None or site != self.site:  # a failure, or somebody honest
            return
        number = envelope["segment" if task == "propose" else "round"]
        if task == "validate" and number < 0:
            number = 0
        trick = self.plan.get(f"{task}/{number}", {"submit": "nan", "propose": "lie"}.get(task))
        if trick == "stale":
            message.set_header("fedrlvr.envelope", envelope | {"round": envelope["round"] - 1})
        elif trick == "eternity":
            message.set_header("fedrlvr.seconds", float("inf"))
        elif trick:
            dxo = from_shareable(message)
            replaced = getattr(self, trick)(dxo.data)
            dxo.data = dxo.data if replaced is None else replaced
            dxo.update_shareable(message)

    @staticmethod
    def nan(delta):
        next(iter(delta.values()))[0, 0] = float("nan")

    @staticmethod
    def huge(delta):
        """Finite, in one value only."""
        next(iter(delta.values()))[0, 0] = 3e38

    @staticmethod
    def wrong_shape(delta):
        name = next(iter(delta))
        delta[name] = delta[name][:, :1].contiguous()

    @staticmethod
    def giant(delta):
        delta[next(iter(delta))] = torch.zeros(4096, 4096)  # 64 MB

    def lie(self, data):
        texts = [f"p{i},0=0;0,0=0##" for i in range(4)]
        data["responses"] = [{"problem_id": i, "text": text, "variant": 0} for i in self.asked for text in texts]

    def ten_thousand(self, data):
        data["responses"] = [{"problem_id": self.asked[0], "text": f"#{i}", "variant": 0} for i in range(10_000)]

    def giant_text(self, data):
        data["responses"] = [{"problem_id": self.asked[0], "text": "0" * 20_000_000, "variant": 0}]

    @staticmethod
    def unknown_prompt(data):
        data["responses"] = [{"problem_id": "protocol-Z0000", "text": "p0,0=0;0,0=0#00", "variant": 0}]

    @staticmethod
    def no_mapping(data):
        return ["responses"]

    @staticmethod
    def infinite_reward(data):
        for step in data["steps"]:
            step["metrics"]["reward"] = float("inf")

    @staticmethod
    def an_events_word(data):
        """A number under a plain name, which is also what the server calls something of its own."""
        for step in data["steps"]:
            step["metrics"]["round"] = 7.0

    @staticmethod
    def better_than_all(data):
        for scores in data["scores"]["test"].values():
            scores["pass@1"] = 2.0

    @staticmethod
    def a_million_problems(data):
        for scores in data["scores"]["test"].values():
            scores["problems"] = 1e6

    @staticmethod
    def a_moving_label(data):
        data["scores"]["test"]["\x1b[2J[/x]"] = {"problems": 1, "pass@1": 1.0}

    @staticmethod
    def more_steps(data):
        data["steps"] *= 3

    @staticmethod
    def other_shapes(data):
        data["adapter_spec"] = {name: [1, 1] for name in data["adapter_spec"]}
