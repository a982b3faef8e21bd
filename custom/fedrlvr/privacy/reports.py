"""What the server checks in the numbers a site reports, before it writes them down. Whole or not at all."""

from __future__ import annotations

import re
import sys

from fedrlvr.privacy.guards import Refused

_NAME = re.compile(r"[a-z_]+(/[a-z_]+)?")
_PASS = re.compile(r"pass@[1-9][0-9]*")
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
RESERVED = {"event", "time", "round", "site", "self"}  # the event log's own
MAX_RECORDS = 10_000
MAX_LABELS = 1_000
MAX_DIMENSION = 2**24  # of a tensor: well above any vocabulary


def check_steps(data: dict) -> list[dict]:
    """The records of a site's training steps: `kind`, `segment`, and finite numbers under plain names.

    Raises:
        Refused: anything else.
    """
    records = data.get("metrics")
    if not isinstance(records, list) or len(records) > MAX_RECORDS:
        raise Refused("metrics must be a list of step records")
    for record in records:
        if not isinstance(record, dict) or record.get("kind") not in ("private", "public"):
            raise Refused("a step record must be a mapping with kind private or public")
        for name, value in record.items():
            if name in RESERVED:
                raise Refused(f"step metric {name!r} has a name that the server's event log uses itself")
            if name != "kind" and not (isinstance(name, str) and _NAME.fullmatch(name) and _finite(value)):
                raise Refused(f"step metric {str(name)[:80]!r} is not a finite number under a plain name")
        if not {"segment", "reward", "live_groups", "groups"} <= set(record):
            raise Refused("a step record lacks segment, reward, live_groups or groups")
    return records


def check_scores(data: dict) -> dict:
    """A site's evaluation: `test`, and perhaps `heldout`, as {label: {"problems": n > 0, "pass@k": in [0, 1]}}.

    Raises:
        Refused: anything else.
    """
    scores = data.get("scores")
    if not isinstance(scores, dict) or "test" not in scores or not set(scores) <= {"test", "heldout"}:
        raise Refused("scores must hold test and may hold heldout")
    for part in scores.values():
        if not isinstance(part, dict) or len(part) > MAX_LABELS:
            raise Refused("scores must map labels to pass@k")
        for label, values in part.items():
            if not isinstance(label, str) or label == "overall":
                raise Refused("a label must be text, and not the word for all of them, overall")
            if not isinstance(values, dict) or "pass@1" not in values:
                raise Refused("a label's scores must hold pass@1")
            if not (_finite(values.get("problems")) and values["problems"] > 0):
                raise Refused("a label's scores: problems must be a positive number")
            for name in set(values) - {"problems"}:
                if not (_PASS.fullmatch(str(name)) and _finite(values[name]) and 0 <= values[name] <= 1):
                    raise Refused(f"a label's scores: {str(name)[:80]!r} is not a pass@k between 0 and 1")
    return scores


def check_spec(data: dict) -> dict[str, list[int]]:
    """A site's adapter tensors as {name: [rows, columns]}.

    Raises:
        Refused: anything else.
    """
    spec = data.get("adapter_spec")
    if not isinstance(spec, dict) or not spec:
        raise Refused("adapter_spec must map tensor names to shapes")
    for name, shape in spec.items():
        whole = (
            isinstance(shape, list)
            and len(shape) == 2
            and all(isinstance(n, int) and 0 < n <= MAX_DIMENSION for n in shape)
        )
        if not isinstance(name, str) or not whole:
            raise Refused(f"adapter_spec: {str(name)[:80]!r} must have two dimensions from 1 to {MAX_DIMENSION}")
    return spec


def check_base_model(data: dict) -> str:
    """A site's base model, by its fingerprint.

    Raises:
        Refused: anything but 16 hex digits.
    """
    fingerprint = data.get("base_model")
    if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
        raise Refused("base_model must be a fingerprint of 16 hex digits")
    return fingerprint


def _finite(value: object) -> bool:
    # An integer beyond a float's range makes isfinite() raise, and JSON can carry one.
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max
