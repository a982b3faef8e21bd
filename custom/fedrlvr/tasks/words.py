"""Answers in words: when two are the same, and which golds are no answer at all."""

import re

from fedrlvr.tasks.units import SHORTENED, same_word

MAX_WORDS = 6  # of a gold; nobody writes a longer sentence again word by word

_WRAPPED = re.compile(r"\\text\{[^{}]*\}")
_WORDS = re.compile(r"[A-Za-z]{3,}(?:[ .,'-]+[A-Za-z0-9]+)*")
_STYLE = re.compile(r"\\text\{|[{}$]")
_STOP = re.compile(r"(?<![0-9])\.|\.(?![0-9])")
_TOKEN = re.compile(r"[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]")
_ORDINAL = re.compile(r"(?<=[a-z] )([0-9]+)(?:st|nd|rd|th)(?![a-z])")
_ARTICLES = ("a", "an", "the")

_BARE_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2,}")
_REMARK = re.compile(
    r"""(?:see|refer\ to|as\ (?:shown|required|desired|above|below|given)|shown|left\ (?:to|as)|proofs?|prove[dn]?|qed
    |(?:the\ )?(?:figure|diagram|sketch|explanation|solution|answers?)|(?:the\ )?graph\ (?:of|is|in)|various)
    (?![a-z]).*
    |n\ ?/\ ?a|nan|null|tb[ad]|to\ ?do|unknown|unanswered|omitted|none\ given
    |not\ (?:given|available|applicable|provided|known)""",
    re.DOTALL | re.VERBOSE,
)


def same_words(gold: str, candidate: str) -> bool | None:
    """Whether two answers in normal form are the same words, whatever their case; None if neither is in words.

    math-verify would read the letters as a product of symbols, in any order.
    """
    if not (_WRAPPED.fullmatch(gold) or _WORDS.fullmatch(gold) or _WRAPPED.fullmatch(candidate)):
        return None
    return folded(gold) == folded(candidate)


def folded(text: str) -> list[str]:
    """The words, numbers and marks of an answer, without case, style, full stops, article, and brackets around all."""
    text = _STOP.sub("", SHORTENED.sub(" ", _STYLE.sub("", text)))
    text = _ORDINAL.sub(r"\1", text).strip()
    text = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    tokens = _TOKEN.findall(text)
    words = [same_word(word, before.isdigit()) for before, word in zip(["", *tokens], tokens, strict=False)]
    return words[1:] if words[:1] and words[0] in _ARTICLES and len(words) > 1 and len(words[1]) > 2 else words


def is_remark(gold: str) -> bool:
    """Whether a gold in normal form is no answer that a completion could give: a remark such as "see figure", "proof"
    or "N/A", a long sentence, nothing but punctuation, or a text with characters that cannot be seen."""
    plain = _STYLE.sub("", gold).strip().casefold()
    if not any(map(str.isalnum, plain)) or not gold.isprintable() or _REMARK.fullmatch(plain):
        return True
    return len(_BARE_WORD.findall(gold)) > MAX_WORDS
