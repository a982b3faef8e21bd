"""What may leave of a site's answers: of answers to public problems, of the numbers of its steps, of its scores.

Nothing is mended. What passes is released as it was; some rules look at a normalised form of it. The rest is counted by
the rule that took it out.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field

from fedrlvr.algorithms.scores import overall
from fedrlvr.privacy.overlap import Found, PrivateIndex
from fedrlvr.privacy.pii import Names, personal_data
from fedrlvr.privacy.policy import MetricRules, ResponseRules
from fedrlvr.privacy.readings import readings
from fedrlvr.privacy.text import hides_something, plain
from fedrlvr.protocol.records import Findings, PublicResponse, RightShares, SiteScores, StepRecord

Dropped = dict[str, int]  # rule -> how many answers, records or labels it took out


class Given:
    """Which rare words of which private problem have left, in whatever answers."""

    def __init__(self):
        self._words: dict[int, set[int]] = defaultdict(set)

    def over(self, found: Found, limit: Callable[[int], float]) -> bool:
        """Whether one more answer would bring a problem's words over its limit."""
        return any(len(new | self._words[problem]) > limit(problem) for problem, new in found.words.items())

    def add(self, found: Found) -> None:
        for problem, new in found.words.items():
            self._words[problem] |= new


@dataclass(frozen=True)
class Context:
    """What the rules need to know besides, for one exchange. `verify` says whether an answer is right, by the site's
    own verifier; `asked_ids` are the problems that were asked for; `released_in_job` answers have left already,
    `private_drops` were dropped by `COMPARING` rules. `given_in_job` and `given_in_step` are what has left of private
    problems."""

    asked_ids: frozenset[str]
    verify: Callable[[PublicResponse], bool]
    index: PrivateIndex
    released_in_job: int = 0
    private_drops: int = 0
    given_in_job: Given = field(default_factory=Given)
    given_in_step: Given = field(default_factory=Given)
    names: Names | None = None
    presidio: Callable[[str], bool] | None = None

    def has_personal_data(self, text: str, rules: ResponseRules) -> bool:
        return any(
            personal_data(reading, rules.pii, rules.phone_regions)
            or (self.presidio is not None and self.presidio(" ".join(reading.split())))  # its names have single blanks
            for reading in readings(text)
        )

    def has_a_name(self, text: str) -> bool:
        return self.names is not None and any(self.names.mentioned(reading) for reading in readings(text))

    def is_over_budget(self, text: str, rules: ResponseRules) -> bool:
        step, share = rules.rare_words_per_step, rules.rare_share_per_job
        if step is None and share is None:
            return False
        found, of = self.index.find(text), self.index.rare_words
        if step is not None and self.given_in_step.over(found, lambda problem: step):
            return True
        return share is not None and self.given_in_job.over(
            found, lambda problem: max(2 * rules.rare_words, share * of[problem])
        )


# Name -> whether an answer breaks the rule, in the order in which the rules are tried.
RULES: dict[str, Callable[[PublicResponse, ResponseRules, Context], bool]] = {
    "not_shared": lambda answer, rules, here: not rules.share,
    "logprobs": lambda answer, rules, here: bool(answer.logprobs) and not rules.logprobs,
    "public_id": lambda answer, rules, here: answer.problem_id not in here.asked_ids,
    "length": lambda answer, rules, here: len(answer.text) > rules.max_length,  # before anything that reads the text
    "verified": lambda answer, rules, here: not here.verify(answer),
    "unicode": lambda answer, rules, here: hides_something(answer.text),
    "pii": lambda answer, rules, here: here.has_personal_data(answer.text, rules),
    "names": lambda answer, rules, here: here.has_a_name(answer.text),
    "identifier": lambda answer, rules, here: rules.ngram > 0 and here.index.find(answer.text).identifiers > 0,
    "overlap": lambda answer, rules, here: rules.ngram > 0 and here.index.find(answer.text).sequences > 0,
    "rare_words": lambda answer, rules, here: 0 < rules.rare_words <= here.index.find(answer.text).rare,
    "budget": lambda answer, rules, here: here.is_over_budget(answer.text, rules),
}
COMPARING = ("names", "identifier", "overlap", "rare_words", "budget")  # with what is private
CAPS = ("private_drops", "duplicate", "per_prompt", "per_step", "per_job")


def filter_responses(
    responses: Sequence[PublicResponse], rules: ResponseRules, context: Context
) -> tuple[list[PublicResponse], Dropped]:
    """The answers of one exchange that may leave, in the order they came; and how many each rule took out."""
    broken = list(broken_rules(responses, rules, context))
    dropped = dict.fromkeys((*RULES, *CAPS), 0) | Counter(rule for rule in broken if rule is not None)
    return [answer for answer, rule in zip(responses, broken, strict=True) if rule is None], dropped


def broken_rules(responses: Sequence[PublicResponse], rules: ResponseRules, context: Context) -> Iterator[str | None]:
    """For each answer of one exchange the first rule that it breaks, None for one that may leave.

    The caps on numbers come last, so that an answer which may not leave takes no place from one that may.
    """
    contents, of_prompt = set(), Counter()
    drops = context.private_drops
    for answer in responses:
        content = (answer.problem_id, answer.variant, " ".join(plain(answer.text).split()))
        broken = _broken(answer, rules, context, drops)
        if broken is None:
            if content in contents:
                broken = "duplicate"
            elif of_prompt[answer.problem_id] >= rules.max_per_prompt:
                broken = "per_prompt"
            elif len(contents) >= rules.max_per_step:
                broken = "per_step"
            elif rules.max_per_job is not None and context.released_in_job + len(contents) >= rules.max_per_job:
                broken = "per_job"
        drops += broken in COMPARING
        if broken is None:
            contents.add(content)
            of_prompt[answer.problem_id] += 1
            if rules.compares:
                found = context.index.find(answer.text)
                context.given_in_job.add(found)
                context.given_in_step.add(found)
        yield broken


def _broken(answer: PublicResponse, rules: ResponseRules, context: Context, private_drops: int) -> str | None:
    """The first rule that an answer breaks. After too many drops that tell of private texts, nothing more is compared:
    else a job could go on asking."""
    if rules.max_private_drops is not None and private_drops >= rules.max_private_drops:
        return "private_drops"
    return next((name for name, breaks in RULES.items() if breaks(answer, rules, context)), None)


def allowed_shares(
    shares: RightShares | None, rules: MetricRules, asked: Container[str]
) -> tuple[RightShares | None, Dropped]:
    """The shares of right completions that may leave, and how many did and did not; None where there are none."""
    if shares is None:
        return None, {}
    kept = {name: share for name, share in shares.items() if rules.public_shares and name in asked}
    return kept or None, {"shares_told": len(kept), "shares_kept_here": len(shares) - len(kept)}


def allowed_findings(findings: Findings | None, rules: MetricRules, share: bool) -> tuple[Findings | None, Dropped]:
    """As `allowed_shares`: which public problems a site solves is a coarser form of what share it gets right. Where no
    answers leave (`share`), none are announced."""
    if findings is None:
        return None, {}
    kept = Findings(found=findings.found if share else [], unsolved=findings.unsolved) if rules.public_shares else None
    told = len(kept.found) + len(kept.unsolved) if kept else 0
    return kept, {"findings_told": told, "findings_kept_here": len(findings.found) + len(findings.unsolved) - told}


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
    return scores.model_copy(update={"heldout": told or None}), {"heldout": len(heldout) - len(told)}
