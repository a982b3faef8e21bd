"""Make startup kits for a server, hospitals, a lead and administrators: one folder for each of them.
Each of them gets only its own kit. Server and hospitals then run `fedrlvr site init` in theirs.

python poc/provision.py --out kits                                     # two hospitals, all on this machine
python poc/provision.py --server-host flare.example.org --hospitals north south --out kits
"""

import argparse
from pathlib import Path

from fedrlvr.flare.deploy.project import FIRST_PORT, LOOPBACK, provision
from fedrlvr.printable import print_error

TEMPLATE = Path(__file__).resolve().parent / "project.yml"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server-host", default=LOOPBACK, help="how sites reach the server (default: %(default)s)")
    parser.add_argument("--port", type=int, default=FIRST_PORT, help="default: %(default)s")
    parser.add_argument("--hospitals", nargs="+", default=["hospital-a", "hospital-b"], metavar="NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    try:
        kits = provision(TEMPLATE, args.out.resolve(), args.server_host, args.port, args.hospitals)
    except (ValueError, OSError) as error:
        print_error(error)
        return 2
    for kit in sorted(path for path in kits.iterdir() if path.is_dir()):
        print(kit)
    print("next: fedrlvr site init KIT/local --server at the server, --policy clinical at each hospital")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
