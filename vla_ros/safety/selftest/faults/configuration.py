"""Configuration faults: missing or invalid limits are rejected, and the current ones stay in force."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import yaml

from vla_ros.errors import VlaError
from vla_ros.paths import share_file
from vla_ros.robot.contract import RobotContract, parse_contract
from vla_ros.safety.parameters import SAFETY_FILE, parse_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import CHUNK_TICKS
from vla_ros.safety.selftest.trial import Fault, Play, Trial, passes
from vla_ros.safety.supervisor import SafetySupervisor
from vla_ros.yaml_files import parse_yaml, read_yaml

Change = Callable[[dict[str, Any]], object]


def _contract(change: Change) -> Play:
    """Load another contract while the arm moves: it is rejected, and the arm continues with its own."""

    def read(trial: Trial) -> None:
        values = parse_yaml(trial.shadow.contract.text)
        values["urdf"] = str(trial.shadow.contract.urdf)  # absolute, even if it was found beside the contract
        arms = {arm["name"]: arm for arm in values.get("arms", ())}
        lines = arms.get(trial.shadow.contract.leading.name, values)  # section of the lead arm, or of the only one
        urdf = values["urdf"]
        change(lines)
        values["urdf"] = lines.pop("urdf", urdf) if lines is not values else values["urdf"]
        contract: RobotContract = parse_contract(yaml.safe_dump(values))
        SafetySupervisor(contract, trial.shadow.parameters)

    return _refused(read)


def _parameters(change: Change) -> Play:
    """Load other parameters while the arm moves."""

    def read(trial: Trial) -> None:
        del trial
        values = copy.deepcopy(read_yaml(share_file(SAFETY_FILE), "safety parameters"))
        change(values)
        parse_parameters(yaml.safe_dump(values))

    return _refused(read)


def _refused(read: Callable[[Trial], None]) -> Play:
    def play(trial: Trial) -> None:
        try:
            read(trial)
        except VlaError:
            trial.answer(Reason.CONFIGURATION)
        trial.follow(lambda _: trial.shadow.way((0.0, 0.01, 0.0)), 2 * CHUNK_TICKS)

    return play


def table() -> list[Fault]:
    """Return the faults of this module."""
    refused = Reason.CONFIGURATION
    return [
        passes("a joint limit is missing", refused, _contract(lambda v: v["joints"].pop("jerk"))),
        passes("a joint limit is NaN", refused, _contract(lambda v: v["joints"].update(velocity=[float("nan")] * 7))),
        passes("a joint limit is zero", refused, _contract(lambda v: v["joints"]["acceleration"].__setitem__(0, 0.0))),
        passes("a limit of the tool is missing", refused, _contract(lambda v: v["cartesian"].pop("linear_jerk"))),
        passes(
            "the workspace has no inside",
            refused,
            _contract(lambda v: v["cartesian"]["workspace"].update(lower=[9.0, 9.0, 9.0])),
        ),
        passes(
            "the contract allows more than the description",
            refused,
            _contract(lambda v: v["joints"]["upper"].__setitem__(0, 9.0)),
        ),
        passes("the robot description is not there", refused, _contract(lambda v: v.update(urdf="urdf/nobody.urdf"))),
        passes("a parameter is missing", refused, _parameters(lambda v: v["timing"].pop("state_timeout"))),
        passes("a parameter is NaN", refused, _parameters(lambda v: v["timing"].update(chunk_timeout=float("nan")))),
        passes("a parameter is out of range", refused, _parameters(lambda v: v["timing"].update(rate_hz=1.0))),
        passes("a parameter is unknown", refused, _parameters(lambda v: v["motion"].update(colour=1.0))),
        passes(
            "an obstacle has no size",
            refused,
            _parameters(lambda v: v["obstacles"].update(post={"shape": "sphere", "position": [0.0, 0.0, 0.0]})),
        ),
    ]
