"""Options that refer to other options of their question: "all of the above", "A and C", "the first two"."""

import re
import unicodedata

_LETTER_NAME = r"(?<!\w)\(?[a-z]\)?(?!\w)"
_REFERS_TO_OTHERS = re.compile(
    r"\b(?:all|none|neither|both|any|either|some|two|three|four|each|every|which|one|more|most)\b[\w ]{0,30}\b"
    r"(?:above|below|these|those|them|options?|choices?|answers?|others?|statements?)\b"
    r"|\b(?:all|none|both|neither) (?:three |four |two )?"
    r"(?:are|is|of|were|correct|true|false|right|wrong|mentioned|listed)\b"
    r"|^(?:all|none|both|neither|either|any)(?: of it)?(?: (?:three|four|two))?[.!]?$"
    r"|^(?:the )?first and (?:the )?(?:second|third|last)[.]?$"
    r"|\b(?:second|third|fourth) (?:options?|choices?|answers?)\b"
    r"|\b(?:first|last|other|former|previous|preceding|following|upper|lower|remaining) "
    r"(?:one|two|three|four|options?|choices?|answers?|mentioned)\b"
    r"|\b(?:as|the|of|options?|choices?|answers?|mentioned|listed) (?:the )?(?:above|below|former|latter)\b"
    r"|\babove (?:all|two|three|mentioned|options?|choices?|answers?)\b"
    r"|\b(?:options?|choices?|answers?) (?:no )?\(?(?:\d|[ivx]+)\)?(?!\w)"
    r"|\b(?:options?|choices?|answers?|only|both|neither|either|except|but|same as) \(?[a-z]\)?(?!\w)"
    r"|(?<!\w)\(?[a-z]\)? (?:only|alone)\b"
    rf"|{_LETTER_NAME}\s*(?:[,/+&;]|,?\s*\b(?:and|or|nor|to|through|thru|until|plus|with|but|as well as)\b)\s*"
    rf"(?:and |or |not |& )?{_LETTER_NAME}"
    rf"|^(?:all |options? )?{_LETTER_NAME} ?[-~] ?{_LETTER_NAME}[.]?$",
    re.IGNORECASE,
)
DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
_MARKUP = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\b|[\\$*{}]")


def refers_to_others(option: str) -> bool:
    """Whether the option only makes sense among the others in their order. A false yes only means that its question is
    never reordered. Blanks of any kind, dashes and letters of any width, and TeX's markup do not hide it."""
    plain = unicodedata.normalize("NFKC", option).translate(DASHES)
    return bool(_REFERS_TO_OTHERS.search(" ".join(_MARKUP.sub("", plain).split())))
