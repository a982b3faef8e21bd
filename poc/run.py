"""A proof of concept: FLARE's real server and sites as separate processes on this machine, on loopback with TLS.

python poc/run.py up                       # three sites, policy open, in workspace/poc
python jobs/demo/job.py --env poc          # the same job that the simulator runs
python poc/run.py down
python poc/run.py demo --seed 3            # all three; other arguments go to jobs/demo/job.py, --resume-from too
"""

import argparse
import subprocess
import sys
from pathlib import Path

from fedrlvr.flare.deploy.deployment import DeploymentError
from fedrlvr.flare.deploy.poc import Poc
from fedrlvr.printable import print_error
from fedrlvr.shipped import POLICIES

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    args, rest = _arguments()
    poc = Poc(args.workspace)
    try:
        if args.command == "down":
            return _down(poc)
        _up(poc, args)
        if args.command == "up":
            return 0
        try:
            return _demo(poc, rest)
        finally:
            _down(poc)
    except (ValueError, DeploymentError, OSError) as error:
        print_error(error)
        return 2
    except KeyboardInterrupt:
        print_error("interrupted")
        return 130


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["up", "demo", "down"])
    parser.add_argument("--sites", type=int, default=3, help="number of sites (default: %(default)s)")
    parser.add_argument("--policy", choices=POLICIES, help="privacy policy of every site (default: open)")
    parser.add_argument("--port", type=int, help="default: the first free one from 8002 on")
    parser.add_argument(
        "--workspace",
        type=Path,
        default=Path("workspace/poc"),
        help="its folder; runs go beside it (default: %(default)s)",
    )
    args, rest = parser.parse_known_args()
    if rest and args.command != "demo":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args, rest


def _up(poc: Poc, args: argparse.Namespace) -> None:
    sites = [f"site-{number}" for number in range(1, args.sites + 1)]
    began = poc.up(ROOT / "poc" / "project.yml", sites, args.policy, args.port)
    state = "is up" if began else "was up already"
    print(
        f"proof of concept {state}: {', '.join(sites)} at localhost:{poc.deployment.port}, in {poc.folder}",
        flush=True,
    )


def _demo(poc: Poc, rest: list[str]) -> int:
    command = [sys.executable, str(ROOT / "jobs" / "demo" / "job.py")]
    places = ["--env", "poc", "--poc", str(poc.folder), "--workspace", str(poc.folder.parent)]
    has_places = any(argument.startswith("--resume-from") for argument in rest)
    job = subprocess.Popen([*command, *([] if has_places else places), *rest])
    while True:
        try:
            return job.wait()
        except KeyboardInterrupt:
            continue  # the job is interrupted too, and must abort at the server before the server stops


def _down(poc: Poc) -> int:
    forced = poc.down()
    print("proof of concept is down" + (f", {forced} processes were killed" if forced else ""), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
