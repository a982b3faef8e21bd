"""What all pictures share: their text stands there as it is written, and long names are cut."""

# Otherwise matplotlib reads a formula between two dollar signs, and cannot draw what is none.
AS_WRITTEN = {"text.parse_math": False, "text.usetex": False}
MAX_LABEL = 26  # characters


def short(name: str) -> str:
    return name if len(name) <= MAX_LABEL else name[: MAX_LABEL - 1] + "…"
