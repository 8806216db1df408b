"""The `vla-ros` command: one module a command, each with HELP, `add_arguments(parser)` and `run(args) -> exit code`."""
