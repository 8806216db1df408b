"""The `vla-ros` command. Each module is one command with HELP, `add_arguments(parser)` and `run(args) -> exit code`."""
