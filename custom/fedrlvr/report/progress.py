"""Live progress of a run: on a terminal a view that is redrawn, elsewhere a line as each segment ends, and one more
where nothing was printed for a while."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live

from fedrlvr.printable import counted, one_line
from fedrlvr.report.learning import PATIENCE, REMEDY, learning, silence_in_words, taught
from fedrlvr.report.live_view import Doing, at_work, line, view
from fedrlvr.report.screen import Screen
from fedrlvr.report.status import RunStatus
from fedrlvr.report.summary import answer_shares, merged_test

SILENCE = 15.0  # seconds without a line, until one tells who does what
REDRAWN = 4  # times a second


class Progress:
    """Takes the run's events. `look` tells what the workers of this machine do."""

    def __init__(self, console: Screen, look: Callable[[], Doing] = dict):
        self.console, self.status, self._look = console, RunStatus(), look
        self._heard = self._spoke = time.monotonic()
        self._silent: dict[str, list[dict] | None] = {}  # a site's steps, until one taught or a warning was given
        self._warned = self._taught = False
        self._printed = -1
        self._lost = False
        self._lock = threading.RLock()  # events come in one thread, and time goes by in another

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it during the block."""
        if self.console.is_terminal:
            with Live(self, console=self.console, refresh_per_second=REDRAWN, transient=True):
                yield
            return
        over = threading.Event()
        pulse = threading.Thread(target=self._speak_up, args=(over,), daemon=True)
        pulse.start()
        try:
            yield
        finally:
            over.set()
            pulse.join()

    def feed(self, event: Mapping | None) -> None:
        """Never raises: an event that a server has written in another way must not end the run that it tells of."""
        with self._lock:
            if self._lost or event is None:
                return
            try:
                self._take(event)
            except Exception as error:
                self._lost = True
                why = one_line(f"{type(error).__name__}: {error}")
                self._print(f"progress is shown no more: an event cannot be read ({why})")

    def line(self) -> str:
        nothing = "  NOTHING LEARNT YET" if self._warned and not self._taught else ""
        return line(self.status, self._now()) + nothing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        with self._lock:
            if not self._lost:
                yield view(self.status, self._now(), self._look(), options.max_width, options.max_height)

    def _now(self) -> float:
        """By the event log's clock."""
        return self.status.clock + time.monotonic() - self._heard

    def _take(self, event: Mapping) -> None:
        self.status.take(event)
        self._heard = time.monotonic()
        match event["event"]:
            case "step":
                self._listen(event)
            case "evaluation":
                if event["which"] == "base":
                    self._print_base(event)
                self._print_once(event["segment"])
            case "exchange":
                self.status.note = f"{counted(event['offered'], 'answer')} exchanged"
                self._print_once(event["segment"])
            case "failure":
                self._print(one_line(f"{event['site']} failed in {event['task']}: {event['reason']}"))
            case "back":
                self._print(f"back: {', '.join(event['sites'])}")

    def _print_base(self, evaluation: Mapping) -> None:
        """Before anything is trained: does the model answer at all?"""
        score, shares = merged_test(evaluation)["overall"]["pass@1"], answer_shares(evaluation)
        self._print(
            f"base model: pass@1 {score:.3f} on the test set; of its completions {1 - shares['unanswered']:.0%} have "
            f"an answer, {shares['cut_off']:.0%} were cut off"
        )
        if score == 0:
            self._warn(f"WARNING: the base model has no answer right, so there may be nothing to learn from; {REMEDY}")

    def _listen(self, step: Mapping) -> None:
        """Tell once of a site none of whose steps taught in its first segments."""
        site, steps = step["site"], self._silent.setdefault(step["site"], [])
        if taught(step):
            self._silent[site], self._taught = None, True
        elif steps is not None:
            steps.append(step)
            if len({told["segment"] for told in steps}) > PATIENCE:
                self._silent[site], self._warned = None, True
                self._warn(f"WARNING: {silence_in_words(site, learning(steps))}; {REMEDY}")

    def _print_once(self, segment: int) -> None:
        if not self.console.is_terminal and self.status.last and segment > self._printed:
            self._printed = segment
            self._print(self.line())

    def _speak_up(self, over: threading.Event) -> None:
        """Until it is over, say who does what whenever nothing was printed for a while."""
        while not over.wait(1.0):
            with self._lock:
                if not self._lost and time.monotonic() - self._spoke >= SILENCE:
                    who = at_work(self.status, self._now(), self._look())
                    self._print(f"{self.line()}  {who}".rstrip())

    def _warn(self, text: str) -> None:
        self._print(text, style="bold yellow")

    def _print(self, text: str, **style: str) -> None:
        self._spoke = time.monotonic()
        self.console.print(text, soft_wrap=True, **style)
