"""The `vla-ros` command. One module per command, each with HELP, `add_arguments(parser)` and `run(args) -> exit code`.
"""
