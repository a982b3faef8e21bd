"""Compare finished runs, best mean first: python jobs/demo/compare.py workspace/demo-*/summary.json"""

import json
import sys
from pathlib import Path

from fedrlvr.report.compare import comparison

if __name__ == "__main__":
    print(comparison([json.loads(Path(path).read_text()) for path in sys.argv[1:]]))
