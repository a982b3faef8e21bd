"""Text from elsewhere on the screen, in every place where rich would read something into it."""

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from fedrlvr.report.screen import Screen

TEXTS = ["[/foo]", "[bold]x[/bold]", ":warning:", "[link=https://example.org]x[/link]", "$\\frac{$", "a\\[b]", "数学"]


def shown(renderable, width=60, **options) -> str:
    file = io.StringIO()
    Screen(file=file, width=width, **options).print(renderable)
    return file.getvalue()


def in_a_table(text: str) -> Table:
    table = Table(text, Column(text, justify="right"), title=text)
    table.add_row(text, text)
    return table


@pytest.mark.parametrize("text", TEXTS)
def test_text_stands_there_as_it_is(text):
    assert shown(text) == f"{text}\n"
    assert shown(Text(text)) == f"{text}\n"
    assert shown(in_a_table(text), width=200).count(text) == 5


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("character", ["\x1b", "\x9b", "\x07", "\x08", "\r", "\u202e", "\u2066", "\u200b", "\ud800"])
def test_nothing_that_steers_a_terminal_gets_there(character, terminal):
    """On a terminal rich has escape sequences of its own, for its colours."""
    text = f"safe{character}[2Jsafe"
    for renderable in (text, Text(text, style="red"), in_a_table(text)):
        out = shown(renderable, force_terminal=terminal)
        assert f"{character}[2J" not in out
        assert "safe" in out
        out.encode()


def test_a_table_has_room_for_what_is_shown_in_place_of_it():
    assert shown(in_a_table("a\u202eb")).count("a b") == 5


def test_a_line_that_is_redrawn_is_still_redrawn():
    file = io.StringIO()
    with Live(console=Screen(file=file, force_terminal=True), auto_refresh=False, transient=True) as live:
        live.update("[/foo] \x1b[2Jx", refresh=True)
    assert "[/foo]  [2Jx" in file.getvalue()
    assert "\x1b[2K" in file.getvalue()  # erases the line
    assert "\x1b[2J" not in file.getvalue()


def test_it_shows_where_it_began_while_what_is_printed_goes_elsewhere(capsys):
    """As a live view, whose thread goes on while FLARE's output is sent to a log."""
    screens, log = (Screen(), Screen(stderr=True)), io.StringIO()
    with redirect_stdout(log), redirect_stderr(log):
        for screen, text in zip(screens, ("out", "err"), strict=True):
            screen.print(text)
    assert log.getvalue() == ""
    assert capsys.readouterr() == ("out\n", "err\n")
