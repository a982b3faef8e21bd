"""The everyday words of languages: what anybody writes is no secret."""

from collections.abc import Iterable

import wordfreq

from fedrlvr.privacy.text import words
from fedrlvr.protocol.refused import Refused

EVERYDAY = 2000  # the most frequent words of a language


def everyday_words(languages: Iterable[str]) -> set[str]:
    """The most frequent words of some languages, as `words` writes them. Raises Refused for an unknown language."""
    known = wordfreq.available_languages()
    for language in languages:
        if language not in known:
            raise Refused(f"responses.languages: no words are known of {language}; expected of {', '.join(known)}")
    return {word for language in languages for text in wordfreq.top_n_list(language, EVERYDAY) for word in words(text)}
