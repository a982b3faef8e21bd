"""A site that does not play by the rules: a FLARE filter that spoils what one site sends, by round and task."""

from __future__ import annotations

import torch
from nvflare.apis.dxo import from_shareable
from nvflare.apis.filter import Filter


class Spoil(Filter):
    """`plan` maps "site/round/task" to the name of a method below."""

    def __init__(self, plan: dict):
        super().__init__()
        self.plan = plan

    def process(self, shareable, fl_ctx):
        envelope = shareable.get_header("fedrlvr.envelope")
        if envelope is None:  # an error answer
            return shareable
        dxo = from_shareable(shareable)
        task = {"WEIGHT_DIFF": "submit", "APP_DEFINED": "propose"}.get(dxo.data_kind, "report")
        trick = self.plan.get(f"{fl_ctx.get_identity_name()}/{envelope['round']}/{task}")
        if trick:
            getattr(self, trick)(dxo.data)
            dxo.update_shareable(shareable)
        return shareable

    @staticmethod
    def nan(delta):
        next(iter(delta.values()))[0, 0] = float("nan")

    @staticmethod
    def missing(delta):
        del delta[next(iter(delta))]

    @staticmethod
    def extra(delta):
        delta["backdoor.lora_A.weight"] = torch.zeros(2, 2)

    @staticmethod
    def unknown_prompt(data):
        data["responses"] = [{"problem_id": "protocol-Z0000", "text": "p0,0=0;0,0=0#00", "variant": 0}]

    @staticmethod
    def lie(data):
        for response in data["responses"]:
            response["text"] = response["text"][:-2] + "##"

    @staticmethod
    def infinite_reward(data):
        for record in data.get("metrics", ()):
            record["reward"] = float("inf")
