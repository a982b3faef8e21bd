"""Compare finished runs that differ in method and seed only, best mean first:
python jobs/demo/compare.py workspace/demo-*/summary.json"""

import argparse
from pathlib import Path

from pydantic import BaseModel

from fedrlvr.config import Method
from fedrlvr.json_text import from_json
from fedrlvr.printable import one_line, print_error, printable
from fedrlvr.report.compare import comparison


class Overall(BaseModel):
    overall: dict[str, float]


class Final(BaseModel):
    test: Overall


class Summary(BaseModel):
    """What of a run's summary is compared."""

    method: Method
    seed: int
    sites: list[str]
    finished: bool
    final: Final | None
    job: dict[str, object]
    base_model: str | None
    test_sha256: str


def read(path: Path) -> dict:
    """Raises ValueError for a file that is no run's summary."""
    try:
        return Summary.model_validate(from_json(path.read_bytes())).model_dump()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        reason = one_line(str(error))[:200]
        raise ValueError(f"{path}: not the summary.json of a run of this version ({reason})") from None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.replace("\n", " "))
    parser.add_argument("summaries", type=Path, nargs="+", metavar="RUN/summary.json")
    try:
        summaries = {str(path): read(path) for path in parser.parse_args().summaries}
        for path, summary in summaries.items():
            if not summary["finished"]:
                print_error(f"left out: {path} did not finish")
        print(printable(comparison(summaries)))
    except ValueError as error:
        print_error(error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
