"""Startup kits for a server, hospitals, a lead and administrators: one folder each, to be handed to whom it is for.
What a participant sets itself, it does with `fedrlvr site init` where its kit will lie.

python poc/provision.py --out kits                                     # two hospitals, all on this machine
python poc/provision.py --server-host flare.example.org --hospitals north south --out kits
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fedrlvr.flare.deploy.project import FIRST_PORT, LOOPBACK, ProjectError
from fedrlvr.flare.deploy.provisioning import provision

TEMPLATE = Path(__file__).resolve().parent / "project.yml"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server-host", default=LOOPBACK, help="by which sites reach it (default: %(default)s)")
    parser.add_argument("--port", type=int, default=FIRST_PORT, help="default: %(default)s")
    parser.add_argument("--hospitals", nargs="+", default=["hospital-a", "hospital-b"], metavar="NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    try:
        kits = provision(TEMPLATE, args.out.resolve(), args.server_host, args.port, args.hospitals)
    except (ProjectError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for kit in sorted(path for path in kits.iterdir() if path.is_dir()):
        print(kit)
    print("next, where they lie: fedrlvr site init KIT/local --server; at each hospital: --policy clinical")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
