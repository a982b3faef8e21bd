"""A site that does not play by the rules: a FLARE filter that spoils everything it sends, one trick after another."""

from __future__ import annotations

import torch
from nvflare.apis.dxo import from_shareable
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey


class Spoil(Filter):
    """At `site`, `plan` maps "task/round", or "propose/segment", to the name of a method below; where it says nothing,
    updates are NaN and every answer claims to be right and is not. `asked` are the ids that such lies are about."""

    def __init__(self, site: str, plan: dict, asked: list):
        super().__init__()
        self.site, self.plan, self.asked = site, plan, asked

    def process(self, shareable, fl_ctx):
        envelope = shareable.get_header("fedrlvr.envelope")
        if envelope is None or fl_ctx.get_identity_name() != self.site:  # an error answer, or somebody honest
            return shareable
        task = fl_ctx.get_prop(FLContextKey.TASK_NAME)
        number = envelope["segment" if task == "propose" else "round"]
        trick = self.plan.get(f"{task}/{number}", {"submit": "nan", "propose": "lie"}.get(task))
        if trick == "stale":
            shareable.set_header("fedrlvr.envelope", envelope | {"round": envelope["round"] - 1})
        elif trick == "eternity":
            shareable.set_header("fedrlvr.seconds", float("inf"))
        elif trick:
            dxo = from_shareable(shareable)
            replaced = getattr(self, trick)(dxo.data)
            dxo.data = dxo.data if replaced is None else replaced
            dxo.update_shareable(shareable)
        return shareable

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
    def wrong_dtype(delta):
        name = next(iter(delta))
        delta[name] = delta[name].double()

    @staticmethod
    def giant(delta):
        delta[next(iter(delta))] = torch.zeros(4096, 4096)  # 64 MB

    @staticmethod
    def missing(delta):
        del delta[next(iter(delta))]

    @staticmethod
    def extra(delta):
        delta["backdoor.lora_A.weight"] = torch.zeros(2, 2)

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
        for record in data["metrics"]:
            record["reward"] = float("inf")

    @staticmethod
    def journals_word(data):
        """A number under a plain name, which is also what the server calls something of its own."""
        for record in data["metrics"]:
            record["round"] = 7.0

    @staticmethod
    def too_many_records(data):
        data["metrics"] = data["metrics"][:1] * 20_000

    @staticmethod
    def better_than_all(data):
        for scores in data["scores"]["test"].values():
            scores["pass@1"] = 2.0

    @staticmethod
    def other_shapes(data):
        data["adapter_spec"] = {name: [1, 1] for name in data["adapter_spec"]}
