"""Mathematical characters beyond ASCII, as the LaTeX that they stand for."""

import re
import unicodedata

# Code point in hexadecimal, and command.
_SYMBOLS = r"""
d7 \times, f7 \div, b7 \cdot, 22c5 \cdot, b1 \pm, 2213 \mp, 221a \sqrt, 2264 \le, 2265 \ge, 2a7d \le, 2a7e \ge, 2260 \ne
2248 \approx, 2261 \equiv, 221e \infty, 2205 \emptyset, 222a \cup, 2229 \cap, 2216 \setminus, 2208 \in, 2209 \notin
2282 \subset, 2286 \subseteq, 2227 \wedge, 2228 \vee, ac \neg, 2192 \to, 21d2 \Rightarrow, 2220 \angle, 25b3 \triangle
22a5 \perp, 230a \lfloor, 230b \rfloor, 2308 \lceil, 2309 \rceil, 27e8 \langle, 27e9 \rangle, 2211 \sum, 220f \prod
222b \int, 2026 \ldots, b0 ^\circ, 211d \mathbb{R}, 2124 \mathbb{Z}, 2115 \mathbb{N}, 211a \mathbb{Q}, 2102 \mathbb{C}
a2 \text{cents}
"""
_FRACTIONS = "\u00bd\u2153\u2154\u00bc\u00be\u2155\u2156\u2157\u2158\u2159\u215a\u215b\u215c\u215d\u215e"
_SPACES = "\u00a0\u2002\u2003\u2007\u2009\u200a\u202f"
_PLAIN = {"\u2212": "-", "\u2013": "-", "\u2032": "'"} | dict.fromkeys(_SPACES, " ")
_SMALL, _CAPITAL = (range(0x3B1, 0x3CA), range(0x391, 0x3AA))  # alpha to omega
_RAISED = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b\u207f"
_LOWERED = "\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089\u208a\u208b\u2099"


def _greek() -> dict[str, str]:
    """Greek letter -> command. Capitals that look like Latin letters have none, and stay."""
    small = {chr(code): unicodedata.name(chr(code)).rpartition(" ")[2].lower() for code in _SMALL}
    capital = {chr(code): unicodedata.name(chr(code), "").rpartition(" ")[2].capitalize() for code in _CAPITAL}
    known = ("Gamma", "Delta", "Theta", "Lamda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega")
    letters = small | {letter: name for letter, name in capital.items() if name in known}
    return {letter: "\\" + name.replace("amda", "ambda") for letter, name in letters.items()}


_GREEK = _greek()
_NAMED = {command: letter for letter, command in _GREEK.items()}
_PAIRS = [pair.split() for pair in _SYMBOLS.strip().replace("\n", ", ").split(", ")]
_TABLE = str.maketrans(
    {chr(int(code, 16)): command + " " for code, command in _PAIRS}
    | {letter: command + " " for letter, command in _GREEK.items()}
    | {one: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", one).split("\u2044")) for one in _FRACTIONS}
    | _PLAIN
)
_TO_LINE = str.maketrans(_RAISED + _LOWERED, "0123456789+-n" * 2)
_COMMAND = re.compile(r"\\[A-Za-z]+ ?")
_MICRO = re.compile("[\u00b5\u03bc](?=(?:g|l|L|m|s|mol|kat|M|U)(?![a-z]))")  # of a unit
_ROOT = re.compile("\u221a ?([0-9]+(?:\\.[0-9]+)?|[A-Za-z\u03b1-\u03c9])")
_POWER, _INDEX = re.compile(f"[{_RAISED}]+"), re.compile(f"[{_LOWERED}]+")


def in_latex(text: str) -> str:
    """The text with mathematical characters written in LaTeX. Digits and letters of other scripts stay as they are:
    they are no answer."""
    if text.isascii():
        return text
    text = _ROOT.sub(r"\\sqrt{\1}", _MICRO.sub("mc", text))
    text = _POWER.sub(lambda run: f"^{{{run[0].translate(_TO_LINE)}}}", text)
    text = _INDEX.sub(lambda run: f"_{{{run[0].translate(_TO_LINE)}}}", text)
    return text.translate(_TABLE)


def greek_letters(text: str) -> str:
    """The text with its commands for Greek letters as those letters."""
    return _COMMAND.sub(lambda match: _NAMED.get(match[0].rstrip(), match[0]), text)
