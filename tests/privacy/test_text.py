# ruff: noqa: RUF001 - unusual characters are what is tested
"""Text that hides something, and notation, which does not; and what words are, however they are written."""

import pytest

from fedrlvr.privacy.text import hides_something, plain, words

HIDDEN = {
    "zero-width space": "1\u200b1",
    "zero-width joiner": "1\u200d1",
    "byte-order mark": "\ufeff11",
    "right-to-left override": "1\u202e1",
    "bidirectional isolate": "\u206711\u2069",
    "soft hyphen": "e\u00adleven",
    "tag characters": "11\U000e0041\U000e0042",
    "variation selector": "11\ufe0f",
    "variation selector supplement": "11\U000e0100",
    "null": "1\x001",
    "escape sequence": "\x1b[31m11",
    "next line": "1\x851",
    "private use": "11\ue000",
    "lone surrogate": "11\ud800",
    "unassigned": "11\u0378",
    "piled accents": "1" + "\u0301" * 4,
    "Cyrillic letters in a Latin word": "p\u0430tient",
    "Greek letters in a Latin word": "\u03c1\u03b1tient",
    "words of Cyrillic letters that all look Latin": "\u0440\u0430\u0440\u0435\u0440 and \u0441\u043e\u0441\u0430",
    "small capitals": "ꜰᴇᴠᴇʀ",
    "turned letters": "ɹǝʌǝɟ",
    "Braille": "⠋⠑⠧⠑⠗",
    "letters in boxes": "🅵🅴🆅🅴🆁",
    "a letter that shows nothing": "1\u31641",
    "Armenian letter in a Latin word": "n\u0585thing",
}
PLAIN = [
    "It is \\boxed{11}.",
    "line\n\tand line\r\n",
    "2πr, Δx, μg/ml, αβ, sin θ",
    "x² ≤ ½ · 10⁻³ → ∞, ∑ᵢ aᵢ, ℝ, ≈ 3 °C",
    "naïve Gauß, Łódź, Ångström, façade, e\u0301te\u0301",
    "Ответ: 11",
    "рост 11, сор и пар",
    "答えは 11 です",
    "الجواب 11",
    "उत्तर 11",
    "",
]


@pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN)
def test_what_hides_something(text):
    assert hides_something(text)


@pytest.mark.parametrize("text", PLAIN)
def test_plain_writing(text):
    assert not hides_something(text)


@pytest.mark.parametrize(
    ("text", "one_form"),
    [
        ("Fièvre ŒDÈME Łódź", "fievre œdeme lodz"),
        ("ｆｅｖｅｒ 𝒻𝑒𝓋𝑒𝓇 ⓕⓔⓥⓔⓡ \u0192\u0435\u03bd\u0435r", "fever fever fever fever"),
        ("ꜰᴇᴠᴇʀ 🄵🄴🅅🄴🅁", "fever fever"),
        ("٤٢ ४२ ④② 𝟜𝟚 ⁴²", "42 42 42 42 42"),
        ("fe\u200bver fe\u00adver fe\ufe0fver", "fever fever fever"),
    ],
)
def test_one_form_of_each_letter_and_digit(text, one_form):
    assert plain(text) == one_form


def test_words():
    assert words("Twenty-five & six: 1,250,000 mL, 4{,}200, 18.7") == [
        "20",
        "5",
        "and",
        "6",
        "1250000",
        "ml",
        "4200",
        "18.7",
    ]
