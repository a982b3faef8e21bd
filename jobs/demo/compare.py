"""Compare finished runs that differ in method and seed only, best mean first:
python jobs/demo/compare.py workspace/demo-*/summary.json"""

import argparse
from pathlib import Path

from fedrlvr.json_text import from_json
from fedrlvr.printable import print_error, printable
from fedrlvr.report.compare import comparison


def read(path: Path) -> dict:
    """Raises ValueError for a file that is no run's summary."""
    try:
        summary = from_json(path.read_bytes())
        return {key: summary[key] for key in ("method", "seed", "sites", "finished", "final", "job", "base_model")}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the summary.json of a run of this version ({error})") from None


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
