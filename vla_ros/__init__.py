"""Runs Vision-Language-Action policies on a robot arm, behind a safety layer that lets nothing unsafe reach the motors.

The public names are importable from here, and are loaded on first use:

    from vla_ros import SafetySupervisor, load_contract, load_parameters, load_policy

The core rooms (types, actions, robot, safety, perception, language, processing, models, policies, data, training, envs,
evaluation, insight, console) import without ROS 2. Only `ros`, `bringup`, `recording`, `client`, `nodes`,
`safety_bench.graph` and `cli` use rclpy and the generated messages.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vla_ros.actions.space import ActionSpace
    from vla_ros.errors import VlaError
    from vla_ros.models.build import build_model
    from vla_ros.models.contract import VlaModel
    from vla_ros.policies.build import load_policy
    from vla_ros.policies.protocol import Policy
    from vla_ros.processing.processor import Processor
    from vla_ros.robot.contract import RobotContract, load_contract
    from vla_ros.safety.parameters import SafetyParameters, load_parameters
    from vla_ros.safety.reasons import Reason
    from vla_ros.safety.supervisor import SafetySupervisor
    from vla_ros.types import ActionChunk, Instruction, Observation, Pose, RobotState, SafetyDecision, SafetyState

_HOMES = {
    "ActionChunk": "vla_ros.types",
    "ActionSpace": "vla_ros.actions.space",
    "Instruction": "vla_ros.types",
    "Observation": "vla_ros.types",
    "Policy": "vla_ros.policies.protocol",
    "Pose": "vla_ros.types",
    "Processor": "vla_ros.processing.processor",
    "Reason": "vla_ros.safety.reasons",
    "RobotContract": "vla_ros.robot.contract",
    "RobotState": "vla_ros.types",
    "SafetyDecision": "vla_ros.types",
    "SafetyParameters": "vla_ros.safety.parameters",
    "SafetyState": "vla_ros.types",
    "SafetySupervisor": "vla_ros.safety.supervisor",
    "VlaModel": "vla_ros.models.contract",
    "VlaError": "vla_ros.errors",
    "build_model": "vla_ros.models.build",
    "load_contract": "vla_ros.robot.contract",
    "load_parameters": "vla_ros.safety.parameters",
    "load_policy": "vla_ros.policies.build",
}
"""Public name to the module that defines it."""

__all__ = [
    "ActionChunk",
    "ActionSpace",
    "Instruction",
    "Observation",
    "Policy",
    "Pose",
    "Processor",
    "Reason",
    "RobotContract",
    "RobotState",
    "SafetyDecision",
    "SafetyParameters",
    "SafetyState",
    "SafetySupervisor",
    "VlaError",
    "VlaModel",
    "build_model",
    "load_contract",
    "load_parameters",
    "load_policy",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (any public name)
    """Import a public name's module on first access (PEP 562), so that importing `vla_ros` loads nothing heavy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vla_ros' has no attribute '{name}'; public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# The build generates `vla_ros.msg` and `vla_ros.srv` into an installed package of this same name. Source and generated
# modules form one package wherever Python found it first: the source tree, a symlinked or a copied install.
# resolve() follows a symlinked install back to the source tree, so new source files need no rebuild.
_halves = [Path(__file__).resolve().parent]
_halves += [Path(entry, __name__) for entry in sys.path if Path(entry, __name__, "msg").is_dir()]
__path__ = list(dict.fromkeys(map(str, _halves)))
