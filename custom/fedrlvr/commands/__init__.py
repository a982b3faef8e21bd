"""The subcommands of `fedrlvr`, one module each, with `add_arguments(parser)` and `run(arguments) -> exit code`."""
