"""`vla-ros check`: checks whether a policy fits a robot, line by line, before anything moves."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.cli.arguments import device, natural
from vla_ros.errors import CheckpointError, ContractError, UsageError, VlaError

if TYPE_CHECKING:
    from vla_ros.policies.compatibility import Compatibility, Line, Needs
    from vla_ros.policies.protocol import Policy
    from vla_ros.policies.registry import PolicySource
    from vla_ros.robot.contract import RobotContract

HELP = "check whether a policy fits a robot, line by line, before anything moves"

EXAMPLES = (
    "vla-ros check checkpoints/pick",
    "vla-ros check checkpoints/pick --robot so101 --json",
    "vla-ros check openpi --robot panda --inferences 0",
)

WARM_UP = 1
"""Number of untimed inferences: the first one may compile."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("policy", help="folder, policy file, openpi://host:port, module:Class, or a name")
    parser.add_argument("--robot", default="panda", help="robot contract: a name or a YAML file")
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32", help="of the network")
    parser.add_argument(
        "--inferences",
        type=natural,
        default=10,
        help="how many are timed; 0: the policy is not loaded where its files say enough",
    )
    parser.add_argument("--instruction", default="pick up the red cube", help="what the timed inferences are asked")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Report; return 0 when every line fits, is converted or is not stated, 1 when one does not fit.

    Raises:
        UsageError: when the robot or the policy is unknown or invalid.
        CheckpointError: when the policy cannot be loaded.
    """
    from vla_ros.policies.build import commanded_by
    from vla_ros.policies.compatibility import commanded_line
    from vla_ros.policies.registry import find_policy
    from vla_ros.robot.contract import load_contract

    try:
        contract, source = load_contract(args.robot), find_policy(args.policy)
    except (ContractError, CheckpointError) as error:
        raise UsageError(str(error)) from error
    commanded = commanded_by(args.policy, contract)  # as the graph, `eval` and `serve` do
    report = _report(source, commanded, args)
    if commanded is not contract:
        report = replace(report, lines=(commanded_line(commanded, contract), *report.lines))
    _print(report)
    if args.json:
        lines = [{**asdict(line), "verdict": line.verdict.value, "where": line.where.value} for line in report.lines]
        misfits = [line.name for line in report.misfits]
        figures = {"policy": args.policy, "robot": report.robot, "fits": not misfits, "misfits": misfits}
        print(json.dumps({**figures, "lines": lines, "fixes": report.fixes()}, default=str))
    return 1 if report.misfits else 0


def _report(source: PolicySource, contract: RobotContract, args: argparse.Namespace) -> Compatibility:
    """Compare what the policy states about itself with the robot; time the policy only where it fits."""
    from vla_ros.policies.compatibility import compare

    needs = _needs(source)
    if needs is not None:
        report = compare(needs, contract)
        if report.misfits or not args.inferences:
            return report
    from vla_ros.policies.needs import needs_of_policy
    from vla_ros.policies.protocol import close_policy

    policy = source.load(contract, args.device, args.precision)
    try:
        needs = needs or needs_of_policy(policy, args.policy)
        return compare(needs, contract, [_latency(policy, contract, args)] if args.inferences else [])
    finally:
        close_policy(policy)


def _needs(source: PolicySource) -> Needs | None:
    """Return the needs stated in the policy's files; None where only the loaded policy states them."""
    from vla_ros.policies.needs import needs_of_checkpoint, needs_of_features

    if source.kind == "checkpoint":
        return needs_of_checkpoint(Path(source.place))
    if source.kind == "openpi" and "observation" in source.options:
        from vla_ros.policies.remote.settings import read_settings

        features = read_settings(source.options).features
        return None if features is None else needs_of_features(features, source.place)
    return None


def _latency(policy: Policy, contract: RobotContract, args: argparse.Namespace) -> Line:
    """Time inferences on an observation of the arm at home; unknown when the policy rejects the instruction."""
    from vla_ros.policies.compatibility import latency_line
    from vla_ros.safety.parameters import load_parameters
    from vla_ros.types import Instruction

    longest, taken, why = load_parameters().timing.inference_timeout, [], ""
    instruction = Instruction(args.instruction, sequence=1)
    try:
        policy.reset(instruction)
        for number in range(WARM_UP + args.inferences):
            observation = replace(_observation(policy, contract), instruction=instruction, sequence=number + 1)
            begin = time.perf_counter()
            policy.predict(observation)
            if number >= WARM_UP:
                taken.append(time.perf_counter() - begin)
    except VlaError as error:
        taken, why = [], f"no inference: {error}"
    line = latency_line(taken, contract, longest)
    return replace(line, note=why) if why else line


def _observation(policy: Policy, contract: RobotContract) -> Any:  # noqa: ANN401 (types are imported late)
    """Return an observation of the arm at home with noise images: latency does not depend on their content."""
    import numpy as np

    from vla_ros.robot.kinematics import Kinematics
    from vla_ros.types import Observation, RobotState

    home, rng = contract.joints.home, np.random.default_rng(0)
    still, openings = np.zeros(len(home)), [arm.gripper.max_opening for arm in contract.arms]
    if len(openings) > 1:
        state = RobotState.of_arms(home, still, openings, 1.0)
    else:
        state = RobotState(home, still, openings[0], Kinematics(contract).forward(home), 1.0)
    images = {
        camera.name: rng.integers(0, 255, (camera.policy_height, camera.policy_width, 3), dtype=np.uint8)
        for camera in contract.cameras
        if camera.name in policy.image_sizes
    }
    return Observation(images, state, None, stamp=1.0)


def _print(report: Compatibility) -> None:
    width = max(len(line.name) for line in report.lines)
    print(f"policy {report.policy} on robot '{report.robot}'")
    for line in report.lines:
        note = f"  ({line.note})" if line.note else ""
        print(f"  {line.verdict.value:<9}  {line.name:<{width}}  policy: {line.policy}; robot: {line.robot}{note}")
    wrong = len(report.misfits)
    print(
        "it fits" if not wrong else f"{wrong} of {len(report.lines)} lines do not fit: nothing moves with this policy"
    )
    if fixes := report.fixes():
        print(f"lines that would fix it:\n{fixes}")
