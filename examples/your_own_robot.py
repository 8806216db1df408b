"""A contract for an arm of your own: copy one, change it, and let the fault table try the safety layer on it.

Run: python examples/your_own_robot.py
"""

import tempfile
from pathlib import Path

import yaml

from vla_ros import load_contract, load_parameters
from vla_ros.paths import share_file
from vla_ros.safety.selftest.table import fault_table, run_faults

lines = yaml.safe_load(share_file("config/robots/ur5e.yaml").read_text())
lines["name"] = "my_ur5e"
lines["urdf"] = str(share_file(lines["urdf"]))
lines["cartesian"]["linear_velocity"] = 0.25  # m/s: slower than the shipped one
lines["joints"]["velocity"] = [0.5 * limit for limit in lines["joints"]["velocity"]]  # rad/s

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "my_ur5e.yaml")
    path.write_text(yaml.safe_dump(lines))
    contract = load_contract(path)

print(contract.name, "has", contract.joints.count, "joints:", ", ".join(contract.joints.names))
chosen = ("the policy dies", "the target is left of the workspace")
for row in run_faults(contract, load_parameters(), [fault for fault in fault_table(contract) if fault.name in chosen]):
    print("stopped" if row.stopped else "MISSED", row.name, "->", row.got)
