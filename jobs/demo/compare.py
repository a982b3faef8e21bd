"""Compare finished runs that differ in method and seed only, best mean first:
python jobs/demo/compare.py workspace/demo-*/summary.json"""

import argparse
from pathlib import Path

from fedrlvr.printable import print_error, printable
from fedrlvr.report.compare import comparison, read_summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.replace("\n", " "))
    parser.add_argument("summaries", type=Path, nargs="+", metavar="RUN/summary.json")
    try:
        summaries = {str(path): read_summary(path) for path in parser.parse_args().summaries}
        for path, summary in summaries.items():
            if not summary["finished"]:
                print_error(f"left out: {path} did not finish")
        print(printable(comparison(summaries).markdown()))
    except ValueError as error:
        print_error(error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
