"""What the rules for answers hold back, what they let out, and how fast and in how much memory.

    python tests/benchmarks/door.py curves --texts mathematics math.jsonl solutions.jsonl --out door.png
    python tests/benchmarks/door.py drops --private math.jsonl gsm8k.jsonl --answers solutions.jsonl --draws 5
    python tests/benchmarks/door.py speed
    python tests/benchmarks/door.py memory 1000000

`curves` takes one or more times a title, a file of private texts and a file of right answers to other problems (problem
files, or JSON Lines with `text`). To the first so many private texts, in the file's order, it adds the 24 stories of
`canaries.txt`, and counts which answers are dropped, and which pieces of the stories get out, as is or in disguise.
`drops` counts dropped answers alone, beside private texts in several orders: those of the first file are shuffled, the
others follow. What `--public` names is public, such as the problems that the answers answer.
`speed` and `memory` make problems of random words.
"""

import argparse
import itertools
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

import wordfreq
from matplotlib.figure import Figure

from fedrlvr.privacy.answers import Context, filter_responses
from fedrlvr.privacy.everyday import everyday_words
from fedrlvr.privacy.overlap import Found, PrivateIndex
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.records import PublicResponse
from fedrlvr.settings_file import load_settings
from fedrlvr.site.private_texts import texts_in
from fedrlvr.types import Problem

HERE = Path(__file__).parent
RULES = load_settings(SitePolicy, HERE.parents[1] / "app_configs" / "site" / "clinical.yaml").responses
EVERYDAY = everyday_words(RULES.languages)
SIZES, NGRAMS, RARE = (100, 500, 1000, 2000, 4000), (3, 4, 5, 6, 8, 10), (2, 3, 4, 5, 6)
COLOURS = ("#2c5f8a", "#c44e2b", "#5b8a2c")

# Which part of a story's words an attacker writes, and in which order.
VERBATIM: dict[str, Callable[[list[str]], str]] = {
    "five words": lambda words: " ".join(words[3:8]),
    "eight words": lambda words: " ".join(words[1:9]),
    "all words": " ".join,
}
DISGUISED: dict[str, Callable[[list[str]], str]] = {
    "sorted": lambda words: " ".join(sorted(words)),
    "backwards": lambda words: " ".join(words)[::-1],
    "every other word": lambda words: " ".join(words[::2] + words[1::2]),
    "numbered": lambda words: " ".join(f"{n}. {word}" for n, word in enumerate(words)),
    "in pieces of four letters": lambda words: " ".join(map("".join, zip(*[iter("".join(words))] * 4, strict=False))),
    "every fourth word replaced": lambda words: " ".join("then" if n % 4 == 3 else w for n, w in enumerate(words)),
}


def is_held(found: Found, rare_words: float = RULES.rare_words) -> bool:
    return found.sequences > 0 or found.identifiers > 0 or found.rare >= rare_words


class Texts:
    """Private texts and right answers of one field."""

    def __init__(self, title: str, private: Path, answers: Path):
        self.title = title
        self.private = list(texts_in(Path(private)))
        self.answers = [problem.prompt for problem in texts_in(Path(answers))]
        self.stories = (HERE / "canaries.txt").read_text(encoding="utf-8").splitlines()

    def found(self, size: int, ngram: int = RULES.ngram) -> list[list[Found]]:
        """What is found in the answers, the verbatim leaks and the disguised ones, beside `size` problems."""
        stories = [Problem(story, story, "") for story in self.stories]
        index = PrivateIndex([*self.private[:size], *stories], (), EVERYDAY, ngram)
        leaks = [[leak(s.split()) for s in self.stories for leak in kind.values()] for kind in (VERBATIM, DISGUISED)]
        return [[index.find(text) for text in texts] for texts in (self.answers, *leaks)]


def shares(found: list[list[Found]], rare_words: float = RULES.rare_words) -> list[float]:
    """Share of answers dropped, of verbatim and of disguised leaks that get out."""
    dropped, *stopped = (sum(is_held(f, rare_words) for f in part) / len(part) for part in found)
    return [dropped, *(1 - share for share in stopped)]


def curves(arguments: argparse.Namespace) -> None:
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for texts, colour in zip([Texts(*parts) for parts in arguments.texts], itertools.cycle(COLOURS), strict=False):
        sizes = [size for size in SIZES if size <= len(texts.private)]
        middle = min(1000, sizes[-1])
        found = texts.found(middle)
        by_panel = [
            [(size, shares(texts.found(size))) for size in sizes],
            [(rare, shares(found, rare)) for rare in RARE],
            [(ngram, shares(texts.found(middle, ngram))) for ngram in NGRAMS],
        ]
        for panel, points in zip(panels, by_panel, strict=True):
            _draw(panel, texts.title, points, colour)
            for x, (dropped, verbatim, disguised) in points:
                print(f"{texts.title}, {x}: dropped {dropped:.3f}, out {verbatim:.3f} and {disguised:.3f} disguised")
    panels[0].set(xscale="log", xlabel="private problems", ylabel="share", ylim=(0, 1))
    panels[0].set_xticks(SIZES, [f"{size:,}" for size in SIZES], minor=False)
    panels[0].minorticks_off()
    panels[1].set(xlabel="rare_words, beside 1,000 problems")
    panels[2].set(xlabel="ngram, beside 1,000 problems")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(arguments.out, dpi=90)


def _draw(panel, title: str, points: Sequence[tuple[float, list[float]]], colour: str) -> None:
    names = ("right answers dropped", "leaks out, verbatim", "leaks out, disguised")
    for number, (name, style) in enumerate(zip(names, ("-", "--", ":"), strict=True)):
        line = [(x, values[number]) for x, values in points]
        panel.plot(*zip(*line, strict=True), style, color=colour, marker="o", markersize=3, label=f"{title}: {name}")
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", alpha=0.25)


def drops(arguments: argparse.Namespace) -> None:
    first, *more = (list(texts_in(path)) for path in arguments.private)
    answers, public = (
        [p.prompt for path in paths for p in texts_in(path)] for paths in (arguments.answers, arguments.public)
    )
    print("| private problems | dropped, mean | least | most |\n| ---: | ---: | ---: | ---: |")
    for size in (size for size in SIZES if size <= len(first) + sum(map(len, more))):
        dropped = []
        for seed in range(arguments.draws):
            private = list(itertools.chain(random.Random(seed).sample(first, len(first)), *more))[:size]
            index = PrivateIndex(private, public, EVERYDAY, RULES.ngram)
            dropped.append(fmean(is_held(index.find(answer)) for answer in answers))
        print(f"| {size:,} | {fmean(dropped):.1%} | {min(dropped):.1%} | {max(dropped):.1%} |")


WORDS = wordfreq.top_n_list("en", 60_000)
WEIGHTS = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(WORDS))))


def made_up(count: int, length: int, seed: int) -> Iterator[str]:
    """Texts of `length` words, as frequent as in English, and a record's number."""
    draw = random.Random(seed)
    for _ in range(count):
        yield " ".join(draw.choices(WORDS, cum_weights=WEIGHTS, k=length)) + f" {draw.randrange(10**7, 10**8)}"


def made_up_index(size: int) -> PrivateIndex:
    return PrivateIndex(
        (Problem(str(n), t, "B") for n, t in enumerate(made_up(size, 30, 0))), (), EVERYDAY, RULES.ngram
    )


def speed(arguments: argparse.Namespace) -> None:
    """Answers of some 800 characters a CPU-second: all rules of `clinical` but the verifier, and the index alone."""
    print("| private problems | answers a CPU-second | by the index alone |\n| ---: | ---: | ---: |")
    answers = [PublicResponse("p", text[:800], 0) for text in made_up(300, 140, 1)]
    rules = RULES.model_copy(update={"max_per_prompt": 1000, "max_per_step": 1000, "max_private_drops": None})
    for size in (1_000, 10_000):
        index = made_up_index(size)
        began = time.process_time()
        filter_responses(answers, rules, Context(frozenset("p"), lambda _: True, index))
        whole, began = time.process_time() - began, time.process_time()
        for answer in answers:
            index.find.__wrapped__(answer.text)
        alone = time.process_time() - began
        print(f"| {size:,} | {len(answers) / whole:.0f} | {len(answers) / alone:.0f} |")


def memory(arguments: argparse.Namespace) -> None:
    began = time.process_time()
    index = made_up_index(arguments.size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{arguments.size:,} problems: {time.process_time() - began:.0f} CPU-seconds, at most {peak:.2f} GB")
    began = time.process_time()
    for text in made_up(50, 140, 1):
        index.find(text)
    print(f"then {50 / (time.process_time() - began):.0f} answers a CPU-second by the index alone")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True)
    drawing = actions.add_parser("curves")
    drawing.add_argument("--texts", nargs=3, action="append", required=True, metavar=("TITLE", "PRIVATE", "ANSWERS"))
    drawing.add_argument("--out", type=Path, required=True, metavar="PNG")
    drawing.set_defaults(run=curves)
    counting = actions.add_parser("drops")
    counting.add_argument("--private", type=Path, nargs="+", required=True, metavar="FILE")
    counting.add_argument("--answers", type=Path, nargs="+", required=True, metavar="FILE")
    counting.add_argument("--public", type=Path, nargs="*", default=[], metavar="FILE")
    counting.add_argument("--draws", type=int, default=5)
    counting.set_defaults(run=drops)
    actions.add_parser("speed").set_defaults(run=speed)
    large = actions.add_parser("memory")
    large.add_argument("size", type=int)
    large.set_defaults(run=memory)
    chosen = parser.parse_args()
    chosen.run(chosen)
