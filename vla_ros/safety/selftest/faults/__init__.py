"""Fault table: what can go wrong and how the layer must react, each run against a supervisor in a dry run.

    rows = run_faults(contract, parameters)  # of `vla_ros.safety.selftest.table`
    missed = [row for row in rows if not row.stopped]

A row counts as stopped when state and reason are as expected, within the expected time, the arm comes to rest where it
must, and no command broke a limit, according to arithmetic independent of the filter.
"""
