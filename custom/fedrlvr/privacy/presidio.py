"""Personal data as Microsoft Presidio finds them, with a spaCy model of the site's own. Optional: 'fedrlvr[pii]'."""

from __future__ import annotations

from fedrlvr.privacy.policy import PresidioRules
from fedrlvr.protocol.refused import Refused


class Presidio:
    """Whether a text names one of the entities that a site's policy lists."""

    def __init__(self, rules: PresidioRules):
        """Raises Refused where the package or the model is missing, or it knows no such entity."""
        try:
            from presidio_analyzer import AnalyzerEngine
            from presidio_analyzer.nlp_engine import SpacyNlpEngine
        except ImportError:
            raise Refused("responses.presidio is set, but Presidio is missing: pip install 'fedrlvr[pii]'") from None
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
        return bool(
            self._analyzer.analyze(
                text, language=rules.language, entities=list(rules.entities), score_threshold=rules.threshold
            )
        )
