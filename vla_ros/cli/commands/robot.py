"""`vla-ros robot simplify`: replace the collision meshes of a robot description by convex shapes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import path, positive_int
from vla_ros.cli.failures import require_output
from vla_ros.errors import ContractError, UsageError

if TYPE_CHECKING:
    from vla_ros.robot.contract import RobotContract
    from vla_ros.robot.description.simplify import Simplified

HELP = "make the collision meshes of a robot description convex"

EXAMPLES = (
    "vla-ros robot simplify ~/myarm.yaml --out ~/myarm_convex.urdf",
    "vla-ros robot simplify ~/myarm.urdf --out ~/myarm_convex.urdf --vertices 16",
)

MOST_PARTS_TRIED = 8
"""Maximum number of convex shapes per mesh; more than requested are tried only if links touch at home."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("action", choices=("simplify",), help="what to do")
    parser.add_argument("robot", help="robot contract (a name or a YAML file), or a URDF or xacro file")
    parser.add_argument("--out", type=path, required=True, help="URDF file to write; shapes are written beside it")
    parser.add_argument("--parts", type=positive_int, default=2, help="convex shapes of one mesh, at most")
    parser.add_argument("--vertices", type=positive_int, default=32, help="vertices of one shape, at most")
    parser.add_argument("--safety", default="config/safety.yaml", help="parameters of the safety layer")
    parser.add_argument(
        "--allow-touching",
        action="store_true",
        help="write it also where shapes touch at home that the meshes keep apart: such pairs are not watched",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Write the description with convex shapes; return 0.

    Raises:
        UsageError: when an option is invalid.
        ContractError: when the description cannot be made convex, or shapes touch at home that do not as meshes, unless
            that is allowed.
    """
    from vla_ros.robot.contract import load_contract
    from vla_ros.robot.description.simplify import LEAST_VERTICES, simplify

    if args.vertices < LEAST_VERTICES:
        raise UsageError(f"--vertices is {args.vertices}, expected at least {LEAST_VERTICES}")
    if args.out.suffix != ".urdf":
        raise UsageError(f"--out {args.out}: expected a file that ends in .urdf")
    require_output(args.out.parent)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if not args.robot.endswith((".yaml", ".yml")) and any(end in args.robot for end in (".urdf", ".xacro")):
        done = simplify(_description(args.robot), args.out, args.parts, args.vertices)
        return _tell(args, done, {}, None)
    contract = load_contract(args.robot)
    for parts in range(args.parts, max(args.parts, MOST_PARTS_TRIED) + 1):
        done = simplify(contract.urdf, args.out, parts, args.vertices)
        try:
            lost = _lost(contract, done, args.safety)
        except ContractError:
            done.remove()
            raise
        if not lost:
            break
    if lost and not args.allow_touching:
        done.remove()
        raise ContractError(
            f"at home these would touch, although the meshes do not, and would not be watched any more: "
            f"{', '.join(f'{pair} ({1e3 * apart:.1f} mm)' for pair, apart in lost.items())}; nothing was written: "
            "allow more --vertices, move joints.home, or say --allow-touching"
        )
    return _tell(args, done, lost, contract)


def _description(line: str) -> Path:
    """Return the URDF file named as in a contract; a xacro file is expanded with its arguments."""
    from vla_ros.robot.contract import find_description
    from vla_ros.robot.description.xacro_files import XACRO, expanded_urdf, split_arguments

    name, arguments = split_arguments(line, "robot")
    found = find_description(name, "robot", Path.cwd())
    return expanded_urdf(found, arguments) if found.suffix == XACRO else found


def _lost(contract: RobotContract, done: Simplified, safety: str) -> Mapping[str, float]:
    """Return the link pairs whose shapes touch at home but whose meshes do not, with the meshes' distance, m."""
    from dataclasses import replace

    from vla_ros.safety.motion.collision import CollisionModel, links_at_home
    from vla_ros.safety.parameters import load_parameters

    parameters = load_parameters(safety)
    before, after = (
        links_at_home(CollisionModel(one, parameters.collision, parameters.obstacles))
        for one in (contract, replace(contract, urdf=done.urdf))
    )
    return {pair: before[pair] for pair, distance in after.items() if distance <= 0.0 < before[pair]}


def _query_times(contract: RobotContract | None, done: Simplified, safety: str) -> tuple[float, ...]:
    """Return the time of all distance queries before and after, and the tick, s; () without a contract."""
    from dataclasses import replace

    from vla_ros.safety.motion.collision import CollisionModel
    from vla_ros.safety.parameters import load_parameters
    from vla_ros.safety.selftest.query_time import query_time

    if contract is None:
        return ()
    parameters = load_parameters(safety)
    both = (contract, replace(contract, urdf=done.urdf))
    models = (CollisionModel(one, parameters.collision, parameters.obstacles) for one in both)
    return (*(query_time(model, one) for model, one in zip(models, both, strict=True)), parameters.timing.period)


def _tell(args: argparse.Namespace, done: Simplified, lost: Mapping[str, float], contract: RobotContract | None) -> int:
    for report in done.reports:
        print(report.sentence)
    if done.kept:
        print(f"{done.kept} primitive shapes stay as they are")
    for pair in lost:
        print(f"not watched: {pair} touch at home")
    print(f"wrote {done.urdf} and {len(done.files) - 1} shapes beside it")
    if contract is None:
        print("what touches at home was not looked at: name the contract in place of the description")
    else:
        print(f"in the contract: urdf: {done.urdf}")
    cost = _query_times(contract, done, args.safety)
    if cost:
        before, after, tick = (1e3 * seconds for seconds in cost)
        print(
            f"distances of the collision shapes: {before:.2f} ms before, {after:.2f} ms now, of a tick of {tick:.0f} ms"
        )
    if args.json:
        figures = {"urdf": str(done.urdf), "kept": done.kept, "touching": dict(lost), "distances_s": cost[:2]}
        print(json.dumps({**figures, "meshes": [asdict(report) for report in done.reports]}))
    return 0
