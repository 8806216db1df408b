"""What a node does not use it does not load: libraries are most of the memory of a small process."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("pinocchio", "coal", "cv2", "torch", "mujoco", "scipy")
LOADED = "import sys; print(*[name for name in {heavy} if name in sys.modules])"


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{LOADED.format(heavy=HEAVY)}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("node", "needed"),
    [
        ("instruction_node", set()),
        ("action_node", set()),
        ("trace_node", set()),
        ("policy_node", set()),  # what its policy needs comes with the policy
        ("safety_node", {"pinocchio", "coal"}),
        ("perception_node", {"pinocchio", "coal", "cv2"}),  # pinocchio loads coal
    ],
)
def test_a_node_loads_what_it_uses(node: str, needed: set[str]) -> None:
    assert loaded(f"import vla_ros.nodes.{node}") == needed


def test_the_shipped_policy_needs_torch_alone() -> None:
    pytest.importorskip("torch")
    code = """
from vla_ros.policies.build import load_policy
from vla_ros.robot.contract import load_contract
import vla_ros.nodes.policy_node
load_policy("checkpoints/pick", load_contract("panda"), "cpu", "fp32")
"""
    assert loaded(code) == {"torch"}
