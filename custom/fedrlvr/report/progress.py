"""Live progress of a run: where it is, how it learns, how much time is left."""

import time

from rich.live import Live

from fedrlvr.printable import one_line
from fedrlvr.report.learning import PATIENCE, REMEDY, learning, silence_in_words, taught
from fedrlvr.report.screen import Screen
from fedrlvr.report.summary import answer_shares, merged_test


class Progress:
    """Takes the run's events. On a terminal it redraws one line; elsewhere it prints a line as each segment ends."""

    def __init__(self, console: Screen, steps_per_segment: int):
        self.console, self.steps_per_segment = console, steps_per_segment
        self.steps = self._before = 0
        self._began: float | None = None
        self._recent: list[dict] = []  # steps, the last four of a site
        self._silent: dict[str, list[dict] | None] = {}  # a site's steps, until one taught or a warning was given
        self._warned = self._taught = False
        self._printed = -1
        self._note = "starting sites"
        self._lost = False
        # Whoever feeds enters this. Without a terminal it shows nothing.
        self.display = Live(console=console, auto_refresh=False, transient=True)

    def feed(self, event: dict | None) -> None:
        """Never raises: an event that a server has written in another way must not end the run that it tells of."""
        if self._lost:
            return
        try:
            if event is not None:
                self._take(event)
            self.display.update(self.line(), refresh=True)
        except Exception as error:
            self._lost = True
            why = one_line(f"{type(error).__name__}: {error}")
            self.console.print(f"progress is shown no more: an event cannot be read ({why})", soft_wrap=True)

    def line(self) -> str:
        if not self._recent:
            return self._note
        last, count = self._recent[-1], len(self._recent)
        reward = sum(step["reward"] for step in self._recent) / count
        live = sum(step["live_groups"] / max(step["groups"], 1) for step in self._recent) / count
        nothing = "NOTHING LEARNT YET  " if self._warned and not self._taught else ""
        return (
            f"round {last['round'] + 1}/{self.rounds}  segment {last['segment'] + 1}/{self.segments}  "
            f"step {self._done()}/{self.segments * self.segment_steps}  reward {reward:.2f}  "
            f"live groups {live:.0%}  {self._left()}  {nothing}{self._note}"
        ).rstrip()

    def _take(self, event: dict) -> None:
        if event["event"] in ("start", "resumed"):
            self.rounds, self.segments, self.sites = event["rounds"], event["segments"], len(event["sites"])
            self.segment_steps = self.steps_per_segment * self.sites
            self._note = "measuring the base model"
        if event["event"] == "resumed":  # all earlier events came at once, from the event log
            self._before, self._began, self._note = self._done(), None, "measuring where the run had stopped"
        elif event["event"] == "step":
            self._began = self._began or time.monotonic()
            self.steps, self._note = self.steps + 1, ""
            self._recent = [*self._recent, event][-4 * self.sites :]
            self._listen(event)
        elif event["event"] == "evaluation":
            if event["which"] == "base":
                self._print_base(event)
            self._print_once(event["segment"])
        elif event["event"] == "exchange":
            self._note = f"{event['offered']} answers exchanged"
            self._print_once(event["segment"])
        elif event["event"] == "failure":
            self.console.print(one_line(f"{event['site']} failed in {event['task']}: {event['reason']}"))
        elif event["event"] == "back":
            self.console.print(f"back: {', '.join(event['sites'])}")

    def _print_base(self, evaluation: dict) -> None:
        """Before anything is trained: does the model answer at all?"""
        score, shares = merged_test(evaluation)["overall"]["pass@1"], answer_shares(evaluation)
        self.console.print(
            f"base model: pass@1 {score:.3f} on the test set; of its completions {1 - shares['unanswered']:.0%} have "
            f"an answer, {shares['cut_off']:.0%} were cut off",
            soft_wrap=True,
        )
        if score == 0:
            text = f"WARNING: the base model has no answer right, so there may be nothing to learn from; {REMEDY}"
            self.console.print(text, style="bold yellow", soft_wrap=True)

    def _listen(self, step: dict) -> None:
        """Tell once of a site none of whose steps taught in its first segments."""
        site, steps = step["site"], self._silent.setdefault(step["site"], [])
        if taught(step):
            self._silent[site], self._taught = None, True
        elif steps is not None:
            steps.append(step)
            if len({told["segment"] for told in steps}) > PATIENCE:
                self._silent[site], self._warned = None, True
                silence = silence_in_words(site, learning(steps))
                self.console.print(f"WARNING: {silence}; {REMEDY}", style="bold yellow", soft_wrap=True)

    def _print_once(self, segment: int) -> None:
        if not self.console.is_terminal and self._recent and segment > self._printed:
            self._printed = segment
            self.console.print(self.line(), soft_wrap=True)

    def _done(self) -> int:
        """The steps reported, or all steps of the finished segments if that is more: a site may not report some."""
        segments = self._recent[-1]["segment"] if self._recent else 0
        return max(self.steps, segments * self.segment_steps)

    def _left(self) -> str:
        done = self._done()
        new = done - self._before - self.sites
        if self._began is None or new <= 0:
            return "time left unknown"
        rate = (time.monotonic() - self._began) / new
        seconds = int(rate * (self.segments * self.segment_steps - done))
        return f"{seconds // 60}:{seconds % 60:02d} left"
