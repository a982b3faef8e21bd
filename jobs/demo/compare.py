"""Compare finished runs, best mean first: python jobs/demo/compare.py workspace/demo-*/summary.json"""

import json
import sys
from pathlib import Path

from fedrlvr.printable import printable
from fedrlvr.report.compare import comparison

if __name__ == "__main__":
    print(printable(comparison([json.loads(Path(path).read_text()) for path in sys.argv[1:]])))
