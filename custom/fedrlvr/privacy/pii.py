"""Which kinds of personal data are in a text, by pattern and checksum, or by Presidio; never what was found."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence

import phonenumbers
from stdnum import iban
from stdnum.gb import nhs
from stdnum.us import ssn

from fedrlvr.privacy.policy import PresidioRules
from fedrlvr.privacy.text import letters_and_digits, plain, words
from fedrlvr.protocol.refused import Refused

LONG_NAME = 9  # letters; a shorter name may be a part of another word

_DASH = re.compile(r"[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_ESCAPED = re.compile(r"\\([_#&%$])")
_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-]+\s?@\s?[\w-]+(?:\s?\.\s?[\w-]+)+"
    r"|(?<![^\W_])[^\W_]+[\W_]{1,3}at[\W_]{1,3}[^\W_][\w-]{1,62}[^\W_][\W_]{1,3}dot[\W_]{1,3}[a-z]{2,}"
    r"|(?<![^\W_])[^\W_]+[\W_]{1,3}(?:arobase|arroba)[\W_]{1,3}[^\W_]{3,}[\W_]{1,3}"
    r"(?:dot|point|punto|ponto)[\W_]{1,3}[a-z]{2,}"
)
_IBAN = re.compile(r"\b[a-z]{2}\d{2}(?:[ .-]?[a-z0-9]){11,30}")
_SSN = re.compile(r"(?<!\d)\d{3}[ ._-]\d{2}[ ._-]\d{4}(?!\d)")
_NHS = re.compile(r"(?<!\d)\d{3}[ ._-]?\d{3}[ ._-]?\d{4}(?!\d)")
_MRN = re.compile(
    r"\b(?:mrn|urn|medical\s+record|health\s+record|patient(?:en)?|hosp(?:ital)?|record|case|chart|accession|study|fall|nhs)"
    # Possessive, and bounded ahead: a long row of dashes takes no more time than any other text.
    r"[\s._\-]*+(?:id|identifier|no|nr|num|number|nummer|record|file|#)?[\s.:#=_\-]*+(?:is\s++)?"
    r"(?=(?:[a-z\-/]{0,20}\d){3})[a-z]{0,4}[\-/]?\d[a-z\d\-/]{3}"
)
_FULL = (  # English, German, French, Spanish, Italian, Portuguese, Dutch
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december"
    r"|januar|februar|marz|mai|juni|juli|oktober|dezember"
    r"|janvier|fevrier|mars|avril|juin|juillet|aout|septembre|octobre|novembre|decembre"
    r"|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre"
    r"|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre"
    r"|janeiro|fevereiro|marco|maio|junho|julho|setembro|outubro|novembro|dezembro"
    r"|januari|februari|maart|mei|augustus)\b"
)
_SHORT = (
    r"(?:jan|ene|gen|feb|fev|mar|mrz|apr|avr|abr|jun|jul|juil|giu|lug|aug|ago"
    r"|sept?|set|oct|okt|ott|out|nov|dec|dez|dic)\b"
)
_OF = r"[\s.,]+(?:of\s|de\s|del\s|do\s)?\s*"
_DAY, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:19|20)\d\d"
_MONTH = f"(?:{_FULL}|{_SHORT})"
_DATE = re.compile(
    rf"(?<![\d.])(?:{_YEAR}([-/.])(?:0?[1-9]|1[0-2])\1{_DAY}|{_DAY}([-/.]){_DAY}\2{_YEAR}"
    rf"|{_DAY}(?:st|nd|rd|th)?{_OF}{_MONTH}{_OF}{_YEAR}|{_MONTH}\.?\s+{_DAY}(?:st|nd|rd|th)?,?\s+{_YEAR}"
    rf"|{_FULL}\s+(?:de\s+)?{_YEAR}|(?:0[1-9]|1[0-2])/{_YEAR}"
    # Years of two digits only where hardly anything else is meant: 19.07.51 and 19 Jul 51, but not 3-4-5 or 3 may 20.
    rf"|(?:0[1-9]|[12]\d|3[01])([-/.])(?:0[1-9]|1[0-2])\3\d\d"
    rf"|{_DAY}\.?\s(?!(?:may|mar|set|out)\b){_MONTH}\.?\s'?\d\d)(?!\d)"
)
_BORN = re.compile(
    r"\b(?:born(?:\s+on)?|d\.?o\.?b\.?|date\s+of\s+birth|birth\s?da(?:te|y)|geb(?:oren|\.)?(?:\s+am)?|n[ée]e?\s+le)"
    r"[\s:=]*\d{1,4}[-/. ]\s?\d{1,2}[-/. ]\s?\d{2,4}"
)


def personal_data(text: str, kinds: Collection[str], phone_regions: Sequence[str]) -> set[str]:
    """Which of `kinds` (see `policy.PII`) are in `text`."""
    spoken = _ESCAPED.sub(r"\1", _DASH.sub("-", plain(text)))
    return {kind for kind in kinds if FINDERS[kind](spoken, phone_regions)}


class Names:
    """A site's own list of names. They are found as whole words in any case, also with the last name first; long names
    also in text without blanks."""

    def __init__(self, names: Iterable[str]):
        listed = {tuple(words(name)) for name in names if words(name)}
        self._names = listed | {(name[-1], *name[:-1]) for name in listed}
        self._joined = {letters for letters in map("".join, self._names) if len(letters) >= LONG_NAME}

    def mentioned(self, text: str) -> bool:
        spoken, letters = words(text), letters_and_digits(text)
        return any(
            parts[start : start + length] in known
            for parts, known in ((tuple(spoken), self._names), (letters, self._joined))
            for length in {len(name) for name in known}
            for start in range(len(parts) - length + 1)
        )


class Presidio:
    """Microsoft Presidio with a spaCy model of the site: whether a text has an entity that the site's policy lists.

    It is optional: `pip install presidio-analyzer`.
    """

    def __init__(self, rules: PresidioRules):
        """Raises Refused if the package or the model is missing, or if Presidio does not know an entity."""
        try:
            from presidio_analyzer import AnalyzerEngine
            from presidio_analyzer.nlp_engine import SpacyNlpEngine
        except ImportError:
            raise Refused("responses.presidio is set, but Presidio is missing: pip install presidio-analyzer") from None
        if not (rules.model / "meta.json").is_file():  # Presidio would try to download it
            raise Refused(f"responses.presidio.model: no spaCy model in {rules.model} (a folder with meta.json)")
        models = [{"lang_code": rules.language, "model_name": str(rules.model)}]
        self.rules = rules
        self._analyzer = AnalyzerEngine(nlp_engine=SpacyNlpEngine(models=models), supported_languages=[rules.language])
        known = self._analyzer.get_supported_entities(rules.language)
        unknown = sorted(set(rules.entities) - set(known))
        if unknown:
            raise Refused(f"responses.presidio.entities: {unknown[0]} is not one of {', '.join(sorted(known))}")

    def __call__(self, text: str) -> bool:
        rules = self.rules
        return bool(self._analyzer.analyze(text, rules.language, list(rules.entities), score_threshold=rules.threshold))


def _phone(text: str, regions: Sequence[str]) -> bool:
    """Whether there is a number of one of the regions, or an international one, with the usual grouping of digits."""
    grouped = phonenumbers.Leniency.STRICT_GROUPING  # a looser rule accepts three numbers of a calculation
    return any(phonenumbers.PhoneNumberMatcher(text, r, leniency=grouped).has_next() for r in (*regions, None))


def _valid(pattern: re.Pattern, valid: Callable[[str], bool]) -> Callable[[str, Sequence[str]], bool]:
    return lambda text, regions: any(valid(match[0]) for match in pattern.finditer(text))


def _iban(text: str, regions: Sequence[str]) -> bool:
    """The text after an IBAN may look like a part of it, so every shorter end is tried."""
    candidates = (re.sub(r"[ .-]", "", match[0]) for match in _IBAN.finditer(text))
    return any(
        iban.is_valid(text[:end].upper(), check_country=False)
        for text in candidates
        for end in range(15, len(text) + 1)
    )


def _any(*patterns: re.Pattern) -> Callable[[str, Sequence[str]], bool]:
    return lambda text, regions: any(pattern.search(text) for pattern in patterns)


FINDERS: dict[str, Callable[[str, Sequence[str]], bool]] = {
    "birth_date": _any(_BORN, _DATE),
    "email": _any(_EMAIL),
    "iban": _iban,
    "mrn": _any(_MRN),
    "nhs": _valid(_NHS, lambda number: nhs.is_valid(re.sub("[._]", "", number))),
    "phone": _phone,
    "ssn": _valid(_SSN, lambda number: ssn.is_valid(re.sub("[ ._]", "-", number))),
}
