"""The normal form of a mathematical answer in LaTeX: one way of writing what can be written in many. Values are not
computed: 1/2 and 0.5 stay different. Everything here is linear in the text's length."""

import re

from fedrlvr.tasks.unicode_math import in_latex

# command -> what it means the same as; "" and " " for commands that only change how the answer looks
_COMMANDS = {
    name: meaning
    for meaning, names in {
        "": "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm ensuremath limits nolimits",
        " ": "displaystyle textstyle tiny scriptsize small normalsize large Large LARGE huge Huge bf rm it sf tt"
        " bfseries quad qquad enspace thinspace",
        "\\text": "mathrm textrm textbf textit textnormal textsf texttt mathbf mathit mathsf mathtt boldsymbol bm pmb"
        " emph mbox hbox operatorname",
        "\\frac": "dfrac tfrac cfrac sfrac",
        "\\binom": "dbinom tbinom",
        "\\le": "leq leqslant leqq",
        "\\ge": "geq geqslant geqq",
        "<": "lt",
        ">": "gt",
        "\\ne": "neq",
        "\\neg": "lnot",
        "\\wedge": "land",
        "\\vee": "lor",
        "\\to": "rightarrow longrightarrow",
        "\\emptyset": "varnothing",
        "\\setminus": "backslash",
        "\\ldots": "dots cdots dotsc dotsb",
        "^\\circ": "degree",
        "\\overline": "bar",
        "\\vec": "overrightarrow",
        "\\hat": "widehat",
        "\\tilde": "widetilde",
        "[": "lbrack",
        "]": "rbrack",
        "\\{": "lbrace",
        "\\}": "rbrace",
        "|": "vert lvert rvert",
        "\\|": "Vert lVert rVert",
        "\\mathbb{R}": "R",
    }.items()
    for name in names.split()
}
_COMMAND = re.compile(r"\\\\(?: ?\[[0-9.]{1,5} ?[a-z]{2}\])?|\\(?:left|right)\.|\\([A-Za-z]+)\*?(?: +(?=\{))?")
_ARGUMENTS = {"\\frac": 2, "\\binom": 2} | dict.fromkeys(
    ("\\sqrt", "\\pmod", "\\text", "\\mathbb", "\\mathcal", "\\overline", "\\vec", "\\hat", "\\tilde"), 1
)
_BARE_ARGUMENT = re.compile(f"(?:{'|'.join(map(re.escape, _ARGUMENTS))})(?![A-Za-z{{])")
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\[[^\[\]]*\]|.", re.DOTALL)
FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|lcm|gcd|max|det"

# (a part of every match, so that most patterns need not be tried; pattern; replacement)
_REWRITES = [
    (",", r"(?<=[0-9])(?:\{,\}|,\\! ?|\\,)(?=[0-9]{3}(?![0-9]))", ""),  # between the thousands of a number
    ("\\!", r"\\!", ""),
    ("\\", r"(?<!\\)\\(?:[,;:> ]|hspace\{[^{}]*\})", " "),
    ("~", r"~", " "),
    ("  ", r" +", " "),
    ("color", r"\\(?:text)?color\{[^{}]*\}", ""),
    ("pi", r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
    ("\\text", r"\\text(?=\{[^{}]*\\(?!cdot)[A-Za-z])", ""),  # a style around mathematics
    ("\\mu", r"\\mu ?\\text\{ ?(?=[gLlms])", r"\\text{mc"),  # a millionth of a unit
    ("\\text", r"\\text\{([^A-Za-z{}]*)\}", r"\1"),
    ("\\text", rf"\\text\{{ ?({FUNCTIONS}) ?\}}", r"\\\1 "),
    ("\\text", r"(?<![0-9}) ])\\text\{ ?([A-Za-z]) ?\}", r"\1"),  # after a number it may be a unit
    ("min", r"(?<![0-9}) ])\\text\{ ?min ?\}", r"\\min "),  # and this the minute
    (  # between inequalities, which have both to hold
        "and",
        r" ?,? ?(?:\\text\{ ?,? ?and ?\}|(?<![A-Za-z\\])and(?![A-Za-z])) ?(?=[^;,]{1,60}(?:[<>]|\\[gln]e(?![A-Za-z])))",
        ",",
    ),
    ("and", r" ?,? ?(?:\\text\{ ?,? ?and ?\}|(?<![A-Za-z\\])and(?![A-Za-z])) ?", ";"),
    ("or", r" ?,? ?(?:\\text\{ ?,? ?or ?\}|(?<![A-Za-z\\])or(?![A-Za-z])) ?", ";"),
    ("\\&", r" ?\\& ?", ";"),
    ("mod", r" ?\((?:\\text\{ ?mod ?([0-9a-z]*) ?\}|\\mod|mod) ?([0-9a-z]*)\)", r"\\pmod{\1\2}"),
    ("\\mod", r" ?\\mod ?([0-9a-z]+)", r"\\pmod{\1}"),
    ("ll real", r"^\\text\{ ?[Aa]ll real numbers ?\}$", r"\\mathbb{R}"),
    ("**", r"\*\*", "^"),
    ("<=", r"<=", r"\\le "),
    (">=", r">=", r"\\ge "),
    ("!=", r"!=", r"\\ne "),
    ("\\not", r"\\not ?=", r"\\ne "),
    ("\\choose", r"\{([^{}]{1,40})\\choose([^{}]{1,40})\}", r"\\binom{\1}{\2}"),
    ("\\over", r"\{([^{}]{1,40})\\over([^{}A-Za-z][^{}]{0,40})\}", r"\\frac{\1}{\2}"),
    ("\\begin", r"[(\[]?\\begin\{(?:matrix|array)\}(?:\{[lcr| ]*\})?", r"\\begin{pmatrix}"),
    ("\\end", r"\\end\{(?:matrix|array)\}[)\]]?", r"\\end{pmatrix}"),
    ("matrix", r"\\(begin|end)\{(?:b|B|small)matrix\}", r"\\\1{pmatrix}"),
    ("\\end", r"\\\\ ?(?=\\end)", ""),
    ("\\log_", r"\\log_([0-9]+) ", r"\\log_{\1}"),
    ("\\log_", r"\\log_([0-9A-Za-z])", r"\\log_{\1}"),
    ("\\top", r"\^(?:\{\\top\}|\\top(?![A-Za-z]))", "^T"),
    ("^{", r"\^\{(\\circ|[0-9A-Za-z])\}", r"^\1"),
    ("_{", r"(?<!\\log)_\{([0-9A-Za-z])\}", r"_\1"),
    ("{:}", r"\{:\}", ":"),
    (  # all x that ...
        "\\{",
        r"^\\\{([^{}\\|: ]{1,10}(?: ?\\in ?\\mathbb\{R\})?) ?(?:\\mid(?![A-Za-z])|\||:) ?",
        r"\\{\1\\mid ",
    ),
    ("\\{", r"^\\\{ ?\\\}$", r"\\emptyset"),
    # A space matters only between letters and digits, and after the comma of "100, 200".
    (" ", r"(?<![A-Za-z0-9,]) | (?![A-Za-z0-9])", ""),
    (" ", r"(\\[A-Za-z]+) (?=[0-9])", r"\1"),
    (", ", r", (?![0-9]{3}(?![0-9]))", ","),
]
_REWRITES = [(sign, re.compile(pattern), replacement) for sign, pattern, replacement in _REWRITES]
_WRAPS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"))


def normalised(text: str) -> str:
    """The normal form of an answer: no spacing, sizing or style commands, no `$` around it, no full stop after it, one
    spelling of each symbol, braces around every argument, `;` for "and" and "or"."""
    text = in_latex(text).strip().removesuffix(".").rstrip()
    for opening, closing in _WRAPS:
        if text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)]
            if inner and "$" not in inner:
                text = inner.strip().removesuffix(".")
                break
    text = " ".join(text.split())
    if "\\" in text:
        text = _COMMAND.sub(_meaning, text)
        if _BARE_ARGUMENT.search(text) or text.count("}{") < text.count("\\frac") + text.count("\\binom"):
            text = _with_braces(text)
        text = _number_in_words(text)
    for sign, pattern, replacement in _REWRITES:
        if sign in text:
            text = pattern.sub(replacement, text)
    return text.strip()


def _meaning(match: re.Match[str]) -> str:
    if match[1] is None:  # the end of a row, whatever its spacing; or \\left. and \\right., which show nothing
        return "\\\\" if match[0].startswith("\\\\") else ""
    return _COMMANDS.get(match[1], "\\" + match[1] + match[0][len(match[1]) + 1 :].rstrip(" "))


def _number_in_words(text: str) -> str:
    """What is in a `\\text{...}` around the whole answer, if that has a digit: "1,200 people" is no mere word."""
    if text.startswith("\\text{") and text.endswith("}") and text.count("{") == 1 and any(map(str.isdigit, text)):
        return text[len("\\text{") : -1].strip().removesuffix(".")
    return text


def _with_braces(text: str) -> str:
    """Braces around every argument of a command, as in `\\frac\\pi2` and `\\sqrt[3]2`."""
    parts, owed = [], [0]  # how many arguments are still to come, in each group that is open
    root = False  # whether the last token was a root, which may have an index
    for token in _TOKEN.findall(text):
        if token == " " and owed[-1]:
            continue
        if token == "{":
            owed.append(0)
        elif token == "}" and len(owed) > 1:
            owed.pop()
            owed[-1] = max(owed[-1] - 1, 0)
        elif owed[-1] and not (root and token[0] == "["):
            single = token not in _ARGUMENTS and (token.isalnum() or (token[0] == "\\" and token[1:].isalpha()))
            owed[-1] = owed[-1] - 1 if single else 0
            token = f"{{{token}}}" if single else token
        owed[-1] = _ARGUMENTS.get(token, owed[-1])
        root = token == "\\sqrt"
        parts.append(token)
    return "".join(parts)
