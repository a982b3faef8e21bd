"""What the server checks of a site's numbers in addition to their form: they must fit what was asked.

The lead sees them summed and averaged over sites. A count that is too large would decide a mean, and a step that nobody
planned would move the clock of the whole run.
"""

from collections import Counter
from collections.abc import Container, Mapping, Sequence

from fedrlvr.algorithms.methods import asks_findings, asks_logprobs, asks_shares
from fedrlvr.algorithms.rewards import reward_limits
from fedrlvr.config import JobConfig
from fedrlvr.protocol.answers import ProposeAnswer
from fedrlvr.protocol.records import Findings, SiteScores, StepRecord
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import ProposeRequest, SwapRequest, TrainRequest, ValidateRequest, places_to_measure

RATIOS = ("completions/clipped_ratio", "completions/unanswered_ratio")
SHARES = ("frac_reward_zero_std", "swap/fraction", *RATIOS)


def check_scores(scores: SiteScores, request: ValidateRequest, test_labels: Sequence[str], ks: Sequence[int]) -> None:
    """The test scores are of exactly the problems of the site's share, label by label, and all scores are pass@k for
    the `ks` that so many samples allow. Raises Refused."""
    share = Counter(test_labels[i] for i in places_to_measure(test_labels, request.share, request.problems))
    told = {label: int(part["problems"]) for label, part in scores.test.items()}
    for label in sorted(told.keys() | share):
        if told.get(label, 0) != share[label]:
            raise Refused(
                f"the test scores are of {told.get(label, 0)} problems with label {label!r}; the site's share has "
                f"{share[label]}"
            )
    if scores.heldout is not None and request.share is None:
        raise Refused("scores on held-out problems, which were not asked for")
    names = {"problems", *(f"pass@{k}" for k in ks if k <= request.samples)}
    for part in (*scores.test.values(), *(scores.heldout or {}).values()):
        if set(part) != names:
            raise Refused(f"a label's scores must be {', '.join(sorted(names))}")


def check_proposal(answer: ProposeAnswer, request: ProposeRequest, job: JobConfig) -> None:
    """Answers and shares are of problems that were asked, no more than allowed, and with what the job asks for and
    nothing else. A site may tell of fewer. Raises Refused."""
    asked = request.asked
    if len(answer.responses) > (limit := job.exchange.max_per_site * len(asked)):
        raise Refused(f"{len(answer.responses)} responses, at most {limit} are allowed")
    least, most = (1, job.grpo.max_completion_length) if asks_logprobs(job) else (0, 0)
    for response in answer.responses:
        if response.problem_id not in asked:
            raise Refused(f"a response to problem {response.problem_id[:80]!r}, which was not asked")
        if not least <= len(response.logprobs) <= most:
            raise Refused(f"a response with {len(response.logprobs)} log-probabilities, expected {least} to {most}")
    if answer.shares is not None and not asks_shares(job):
        raise Refused("shares of right completions, which were not asked for")
    for problem_id in answer.shares or ():
        if problem_id not in asked:
            raise Refused(f"a share of problem {problem_id[:80]!r}, which was not asked")


def check_findings(findings: Findings | None, public_ids: Container[str], job: JobConfig) -> None:
    """Raises Refused for findings of problems that there are not, or in a job that does not ask for any."""
    if findings is None:
        return
    if not asks_findings(job):
        raise Refused("findings, which were not asked for")
    for problem_id in (*findings.found, *findings.unsolved):
        if problem_id not in public_ids:
            raise Refused(f"a finding of problem {problem_id[:80]!r}, which there is not")


def check_steps(steps: Sequence[StepRecord], request: TrainRequest | SwapRequest, job: JobConfig) -> None:
    """Each step is one that the request asks for, and its counts and shares are such as it can have. A site need not
    tell of every step. Raises Refused."""
    asked = _asked(request)
    told = Counter((step.kind, step.segment) for step in steps)
    for (kind, segment), count in told.items():
        if count > asked[kind, segment]:
            raise Refused(f"{count} {kind} steps of segment {segment}, {asked[kind, segment]} were asked for")
    received = len(request.responses) if isinstance(request, SwapRequest) else 0
    segments = [request.segment] if isinstance(request, SwapRequest) else request.segments
    public = {segment.index: len(segment.public_ids) for segment in segments}
    for step in steps:
        groups = public[step.segment] if step.kind == "public" else _most_private_groups(job)
        counts = {name: (0.0, most) for name, most in _most(step.metrics, groups, received, job).items()}
        for name, (least, most) in (counts | reward_limits(job.grpo)).items():
            if not least <= step.metrics.get(name, 0.0) <= most:
                raise Refused(f"a {step.kind} step's {name} is {step.metrics[name]:g}, expected {least:g} to {most:g}")


def _asked(request: TrainRequest | SwapRequest) -> Counter[tuple[str, int]]:
    """(kind, segment) -> steps."""
    if isinstance(request, SwapRequest):
        return Counter({("public", request.segment.index): 1})
    asked: Counter[tuple[str, int]] = Counter()
    for segment in request.segments:
        asked["private", segment.index] += segment.private_steps
        left_to_swap = request.exchange and segment is request.segments[-1]
        asked["public", segment.index] += bool(segment.public_ids) and not left_to_swap
    return asked


def _most_private_groups(job: JobConfig) -> int:
    """A Poisson sample holds `prompts_per_step` problems on average; more than this bound it never does."""
    size = job.grpo.prompts_per_step
    return 10 * size + 100 if job.privacy.mode == "dp_grpo" else size


def _most(told: Mapping[str, float], groups: int, received: int, job: JobConfig) -> dict[str, float]:
    """The most that each number of a step can be which a screen sums up or averages; the least is 0."""
    completions = told["groups"] * job.grpo.num_generations
    return {
        "groups": groups,
        "live_groups": told["groups"],
        "completions": completions,
        "num_tokens": completions * job.grpo.max_completion_length,
        "swap/completions": completions,
        "swap/all_wrong_groups": told["groups"],
        "swap/rescued_groups": told.get("swap/all_wrong_groups", 0.0),
        "verifier/timeouts": completions,
        "exchange/received": received,
        "exchange/unknown_prompt": received,
        "exchange/wrong": received - told.get("exchange/unknown_prompt", 0.0),
        **dict.fromkeys(SHARES, 1.0),
    }
