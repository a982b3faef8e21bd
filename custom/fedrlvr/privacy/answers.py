"""What may leave of a site's answers: of answers to public problems, of the numbers of its steps, of its scores.

Nothing is mended. What passes is released as it was; some rules look at a normalised form of it. The rest is counted by
the rule that took it out.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedrlvr.algorithms.scores import overall
from fedrlvr.privacy.overlap import PrivateIndex
from fedrlvr.privacy.pii import Names, personal_data
from fedrlvr.privacy.policy import MetricRules, ResponseRules
from fedrlvr.privacy.text import hides_something, plain
from fedrlvr.protocol.records import PublicResponse, SiteScores, StepRecord

Dropped = dict[str, int]  # rule -> how many answers, records or labels it took out


@dataclass(frozen=True)
class Context:
    """What the rules need to know besides. `verify` says whether an answer is right, by the site's own verifier;
    `asked_ids` are the problems of the step under way; `released_in_job` answers have left already."""

    asked_ids: frozenset[str]
    verify: Callable[[PublicResponse], bool]
    index: PrivateIndex
    released_in_job: int = 0
    names: Names | None = None
    presidio: Callable[[str], bool] | None = None

    def has_personal_data(self, text: str, rules: ResponseRules) -> bool:
        found = personal_data(text, rules.pii, rules.phone_regions, self.names)
        return bool(found) or (self.presidio is not None and self.presidio(text))


# Name -> whether an answer breaks the rule, in the order in which the rules are tried.
RULES: dict[str, Callable[[PublicResponse, ResponseRules, Context], bool]] = {
    "not_shared": lambda answer, rules, here: not rules.share,
    "public_id": lambda answer, rules, here: answer.problem_id not in here.asked_ids,
    "length": lambda answer, rules, here: len(answer.text) > rules.max_length,  # before anything that reads the text
    "verified": lambda answer, rules, here: not here.verify(answer),
    "unicode": lambda answer, rules, here: hides_something(answer.text),
    "overlap": lambda answer, rules, here: here.index.shared(answer.text) > rules.max_shared_ngrams,
    "pii": lambda answer, rules, here: here.has_personal_data(answer.text, rules),
}
CAPS = ("duplicate", "per_prompt", "per_step", "per_job")


def filter_responses(
    responses: Sequence[PublicResponse], rules: ResponseRules, context: Context
) -> tuple[list[PublicResponse], Dropped]:
    """The answers that may leave, in the order they came. Each of the others counts for the first rule that it broke.

    The caps on numbers come last, so that an answer which may not leave takes no place from one that may.
    """
    dropped = dict.fromkeys((*RULES, *CAPS), 0)
    kept: list[PublicResponse] = []
    contents, of_prompt = set(), Counter()
    for answer in responses:
        broken = next((name for name, breaks in RULES.items() if breaks(answer, rules, context)), None)
        if broken is None:
            content = (answer.problem_id, answer.variant, " ".join(plain(answer.text).split()))
            if content in contents:
                broken = "duplicate"
            elif of_prompt[answer.problem_id] >= rules.max_per_prompt:
                broken = "per_prompt"
            elif len(kept) >= rules.max_per_step:
                broken = "per_step"
            elif rules.max_per_job is not None and context.released_in_job + len(kept) >= rules.max_per_job:
                broken = "per_job"
        if broken is not None:
            dropped[broken] += 1
        else:
            kept.append(answer)
            contents.add(content)
            of_prompt[answer.problem_id] += 1
    return kept, dropped


def allowed_steps(steps: Sequence[StepRecord], rules: MetricRules) -> tuple[list[StepRecord], Dropped]:
    kept = [step for step in steps if rules.private_steps or step.kind != "private"]
    return kept, {"private_steps": len(steps) - len(kept)}


def allowed_scores(scores: SiteScores, rules: MetricRules) -> tuple[SiteScores, Dropped]:
    told = heldout = scores.heldout or {}
    if rules.heldout == "none":
        told = {}
    elif rules.heldout == "overall" and heldout:
        told = {"all": overall(heldout)}
    told = {label: values for label, values in told.items() if values["problems"] >= rules.min_heldout}
    return SiteScores(test=scores.test, heldout=told or None), {"heldout": len(heldout) - len(told)}
