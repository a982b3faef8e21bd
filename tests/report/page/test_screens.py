"""The page in a browser, at the width of a desk and of a phone, in light and in dark: nothing sticks out, nothing is
missing. Where no Chromium is installed, these tests are skipped."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest
from PIL import Image
from tests.report.page.conftest import a_run

from fedrlvr.report.page.content import MOST_TEXT, page_of
from fedrlvr.report.page.events import Log
from fedrlvr.report.page.folder import RunFiles, SiteRecords
from fedrlvr.report.page.html import rendered
from fedrlvr.report.page.swaps import Swap
from fedrlvr.types import Problem

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]

PAPER = {"light": (0xFD, 0xFC, 0xFA), "dark": (0x16, 0x18, 0x1B)}  # of style.css
LONG = "Wörterohneleerzeichen" * 9  # a name of 189 characters
LOOK = """<script>
const wide = [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, .text, svg')
  && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName);
parent.document.title = JSON.stringify({width: innerWidth, scroll: document.documentElement.scrollWidth, wide,
  missing: [...document.images].filter(i => !i.naturalWidth).length,
  lines: document.querySelectorAll('polyline').length});
</script></body>"""
POLICY = re.compile('<meta http-equiv="Content-Security-Policy"[^>]*>')


def looked_at(page: str, width: int, folder: Path) -> dict:
    """What a script finds in the page, which itself has none, in a frame: no window is as narrow as a phone."""
    inner = escape(POLICY.sub("", page).replace("</body>", LOOK))
    frame = f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{inner}"></iframe>'
    path = folder / "frame.html"
    path.write_text(f'<!DOCTYPE html><meta charset="utf-8"><title></title>{frame}', encoding="utf-8")
    title = re.search("<title>(.*?)</title>", browse(path, 1400, "light", "--dump-dom"), re.DOTALL)[1]
    return json.loads(unescape(title))


def hard_page() -> str:
    """Long names without a blank, long completions, and all that a page may have."""
    events = json.loads(json.dumps(a_run()).replace('"north"', json.dumps(LONG)).replace('"A"', json.dumps(LONG + "A")))
    own = {"text": "x" * 5 * MOST_TEXT, "reward": 0.0, "reason": "wrong"}
    right = {"text": "\\boxed{4}\n" * 40, "reward": 1.0, "reason": "exact"}
    swap = Swap(receiver=LONG, origin="south", problem_id="p1", segment=0, instead_of=own, **right)
    entry = {"job": "j", "kind": "adapter", "count": 1, "bytes": 10**12, "rules": {"ngram": 3}}
    sent = [entry | {"decision": "released", "reason": ""}, entry | {"decision": "refused", "reason": LONG * 3}]
    files = RunFiles(
        LONG,
        Log(events, left_out=["line 3 (not an event)"], cut=True),
        public={"p1": Problem("p1", LONG * 5, "4", LONG + "A", choices=(LONG, "b"))},
        sites={LONG: SiteRecords(swaps=[swap], has_log=True, sent=sent, spent=[f"{LONG}: epsilon 2"])},
    )
    return rendered("run.html", page=page_of(files), compared=None, most_text=MOST_TEXT, version="1")


def browse(page: Path, width: int, mode: str, *more: str) -> str:
    scheme = f"--blink-settings=preferredColorScheme={('dark', 'light').index(mode)}"
    own = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu", f"--user-data-dir={page.parent / 'c'}"]
    command = [CHROMIUM, *own, scheme, f"--window-size={width},3000", *more, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("width", [1280, 500, 375, 320])
def test_nothing_sticks_out_and_nothing_is_missing(tmp_path, width):
    found = looked_at(hard_page(), width, tmp_path)
    assert (found["width"], found["scroll"], found["wide"], found["missing"]) == (width, width, [], 0)
    assert found["lines"] == 3 + 2 + 2 + 2  # pass@1 with its mean, rewards, groups that teach


def test_what_sticks_out_would_be_seen(tmp_path):
    page = hard_page().replace("</main>", '<div style="width: 2000px">x</div><img src="data:,"></main>')
    found = looked_at(page, 375, tmp_path)
    assert found["scroll"] > 2000
    assert (found["wide"], found["missing"]) == (["DIV"], 1)


@pytest.mark.parametrize("mode", PAPER)
@pytest.mark.parametrize("width", [1280, 375])
def test_it_is_drawn_in_light_and_in_dark(tmp_path, width, mode):
    page, shot = tmp_path / "page.html", tmp_path / "shot.png"
    page.write_text(hard_page(), encoding="utf-8")
    browse(page, width, mode, f"--screenshot={shot}")
    with Image.open(shot) as picture:
        image = picture.convert("RGB")
    assert image.size == (width, 3000)
    assert image.getpixel((2, 2)) == PAPER[mode]
    colours = image.getcolors(maxcolors=2**20)
    assert len(colours) > 100
    assert max(colours)[1] == PAPER[mode]


def test_a_script_that_got_into_a_page_would_not_run(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(hard_page().replace("</body>", "<script>document.title = 'it ran'</script></body>"))
    assert "it ran</title>" not in browse(page, 1280, "light", "--dump-dom")
