"""The `fedrlvr` command. It exits with one message and code 2 on bad input, 1 on a broken installation, and 130 when
interrupted."""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from fedrlvr.printable import print_error
from fedrlvr.version import PROTOCOL, installed, source_hash

COMMANDS = {
    "init": "write a small project for problems, or a task, of your own",
    "run": "run a preset: in FLARE's simulator, in one process, or on a FLARE server",
    "watch": "follow a run that goes on, or show how one ended",
    "prepare": "make site files, public set and test set from a data set",
    "site": "set up a FLARE site's folder, or the server's",
    "doctor": "check that a site can take part, and say what to fix",
    "score": "score completions with a task's verifier",
    "egress": "show what has left this site, or would leave it",
    "evaluate": "measure pass@k of a model, with or without an adapter",
    "report": "write one page of a run, alone or beside other runs",
    "chat": "talk to a model on the terminal, with or without an adapter",
    "merge": "write a model with an adapter merged into its weights",
    "settings": "print every setting with its type, default and meaning",
}


class _Version(argparse.Action):
    """What all participants of a job must have in common."""

    def __call__(self, parser, *_) -> None:
        release = installed("fedrlvr") or "(not installed)"
        print(f"fedrlvr {release}, protocol {PROTOCOL}, source {source_hash()}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog="fedrlvr", description="Federated RLVR on NVIDIA FLARE.")
    parser.add_argument("--version", action=_Version, nargs=0, help="of package, protocol and source")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    command_named = {}
    for name, description in COMMANDS.items():
        command = command_named[name] = commands.add_parser(name, help=description, description=description)
        if name in argv[:1]:  # import only the command that runs: some load torch
            module = import_module(f"fedrlvr.commands.{name}")
            module.add_arguments(command)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:  # told with the usage of the command, if that comes first
        asked = command_named[arguments.command] if arguments.command == argv[0] else parser
        asked.error(f"unrecognized arguments: {' '.join(unknown)}")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a kernel that nothing here uses
    try:
        return module.run(arguments)
    except (ValueError, OSError) as error:
        print_error(error)
        return 2
    except RuntimeError as error:
        from fedrlvr.tasks.task import VerifierFault

        if not isinstance(error, VerifierFault):
            raise
        print_error(error)
        return 1
    except KeyboardInterrupt:
        print_error("interrupted")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
