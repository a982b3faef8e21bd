r"""The ways in which an answer may be read: as it stands, without its markup, and decoded.

Each takes time in proportion to the text. Ciphers, sums and first letters are endless, and not read.
"""

import base64
import binascii
import html
import re
from urllib.parse import unquote

_DRAWING = re.compile(r"\[asy\](?:(?!\[asy\]).)*?\[/asy\]", re.DOTALL)  # in Asymptote
_SETTING = re.compile(r"\\(?:begin|end|(?:text)?color)\s*\{[^{}]{0,40}\}")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|[,;:! ])")
_TAG = re.compile(r"<!--.{0,200}?-->|</?[A-Za-z][^<>]{0,200}>", re.DOTALL)
_LINK = re.compile(r"(?<=\])\([^()\s]{0,200}\)")
_EMPHASIS = re.compile(r"[*`$~]+|\{(?!,\})|(?<!\{,)\}")  # but not {,}, which groups digits
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})")
_CODED = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,6}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[ :,]?){4,}")
_NOT_HEX = re.compile(r"[^0-9a-fA-F]")


def bare(text: str) -> str:
    r"""The text without LaTeX commands, drawings, HTML tags, emphasis and the targets of Markdown links: \text{fever},
    **fever** and <b>fever</b> are fever."""
    for pattern in (_DRAWING, _SETTING, _COMMAND, _TAG, _LINK, _EMPHASIS):
        text = pattern.sub(" ", text)
    return text


def readings(text: str) -> tuple[str, ...]:
    """The different readings of an answer, itself first."""
    unescaped = html.unescape(unquote(_ESCAPE.sub(lambda match: chr(int(match[1] or match[2], 16)), text)))
    ways = dict.fromkeys((text, bare(text), bare(unescaped), " ".join(_decoded(text))))
    return tuple(way for way in ways if way.strip())


def _decoded(text: str) -> list[str]:
    """What the text holds in base 64, 32 or 16."""
    hexed = (bytes.fromhex(_NOT_HEX.sub("", match[0])) for match in _HEX.finditer(text))
    return [plain for plain in map(_as_text, [*hexed, *_unbased(text)]) if plain]


def _unbased(text: str) -> list[bytes]:
    found = []
    for match in _CODED.finditer(text):
        coded = match[0].rstrip("=").replace("-", "+").replace("_", "/")
        padded = coded + "=" * (-len(coded) % 8)
        for decode in (base64.b64decode, base64.b32decode):
            try:
                found.append(decode(padded))
            except binascii.Error:
                continue
    return found


def _as_text(data: bytes) -> str:
    """The bytes as text, "" where they are none: chance makes no run of readable characters."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""
