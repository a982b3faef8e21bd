"""Whether a run learns at all. A step teaches if it moved the adapter and the rewards in some group differed."""

from collections.abc import Iterable, Sequence

from fedrlvr.printable import counted

NOTHING_LEARNT = 4  # exit code
PATIENCE = 2  # segments without such a step, until a site's silence is told
REMEDY = (
    "each site's completions.jsonl shows what the model writes; prompt.examples, a larger grpo.max_completion_length "
    "or another model may help"
)


def taught(step: dict) -> bool:
    """A divergence term, weight decay or the noise of DP-GRPO move an adapter, too, but not to anything that was
    learnt. A site that does not tell of its optimizer steps is believed."""
    return step.get("optimizer_steps", 1) > 0 and step.get("live_groups", 1) + step.get("swap/rescued_groups", 0) > 0


def learning(steps: Sequence[dict]) -> dict:
    """How many of these steps taught, and of their completions the shares that were cut off, had no answer, and could
    not be verified; 0 of none."""
    total = sum(step.get("completions", 0) for step in steps)

    def share(name: str, weight: str | None = None) -> float:
        return sum(step.get(name, 0) * (step.get(weight, 0) if weight else 1) for step in steps) / max(total, 1)

    return {
        "steps": len(steps),
        "taught": sum(map(taught, steps)),
        "cut_off": share("completions/clipped_ratio", "completions"),
        "unanswered": share("completions/unanswered_ratio", "completions"),
        "unverified": share("verifier/timeouts"),
    }


def learning_by_site(events: Iterable[dict]) -> dict[str, dict]:
    """Of each site that told of a step."""
    steps: dict[str, list[dict]] = {}
    for event in events:
        if event["event"] == "step":
            steps.setdefault(event["site"], []).append(event)
    return {site: learning(some) for site, some in sorted(steps.items())}


def nothing_learnt(by_site: dict[str, dict]) -> bool:
    """Whether steps were told, and none of any site taught."""
    return bool(by_site) and not any(found["taught"] for found in by_site.values())


def silence_in_words(site: str, found: dict) -> str:
    return (
        f"{site} has learnt nothing in {counted(found['steps'], 'step')}: no group had rewards that differ. "
        f"Of its completions {found['cut_off']:.0%} were cut off, {found['unanswered']:.0%} had no answer "
        f"(as no \\boxed{{}}), {found['unverified']:.0%} could not be verified"
    )
