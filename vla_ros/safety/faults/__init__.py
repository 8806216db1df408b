"""The fault table: what may go wrong, and what the layer must do about it, each tried on a supervisor in shadow.

    rows = run_faults(contract, parameters)
    missed = [row for row in rows if not row.stopped]

A row is stopped when the state and the reason are the expected ones, within the expected time, the arm comes to rest
where it must, and no command broke a limit by arithmetic that knows nothing of the filter.
"""

from vla_ros.safety.faults.table import fault_table, run_faults
from vla_ros.safety.faults.trial import Fault, FaultRow

__all__ = ["Fault", "FaultRow", "fault_table", "run_faults"]
