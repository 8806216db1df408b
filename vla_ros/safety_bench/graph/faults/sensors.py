"""Faults of cameras, joint states and clocks, injected by a node between the sensors and the graph."""

from __future__ import annotations

from typing import Any

from vla_ros.nodes.policy_node import STALE_AFTER
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.heartbeat import HEARTBEAT_PERIOD
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety_bench.graph.faults.fault import GraphFault
from vla_ros.safety_bench.graph.scenario import Scenario

CAMERA = "camera stale, frozen, black, saturated, wrong size or encoding, swapped, skewed"
JOINTS = "joint state missing, partial, reordered, stale, far from the command"
CLOCK = "clock jumps; simulation paused, rate changed"
NUMBERS = "NaN, Inf, 1e300 in joints"

HOUR = 3600.0

FROZEN_NOTICE = 2.0
"""Time until the arm has moved far enough for a frozen image to be detectable, s."""

FIRST_STATE = 0.03
"""Latency of the first tampered joint state on a busy machine, s."""


def sensor_faults(contract: RobotContract, parameters: SafetyParameters) -> list[GraphFault]:
    """Return the faults of this module; the timeouts are those of `parameters` and of the nodes."""
    timing = parameters.timing
    period = 1.0 / min(camera.rate_hz for camera in contract.cameras)
    first, wait = contract.cameras[0].name, STALE_AFTER + timing.policy_timeout
    seen = (period + HEARTBEAT_PERIOD, "the camera's period and the heartbeat that says so")
    still = (FIRST_STATE, "the next joint state")

    def camera(name: str, what: str, notice: tuple[float, str] = seen) -> GraphFault:
        return _lie(name, CAMERA, {"images": {first: what}}, ("policy_waiting",), wait, notice)

    def joints(name: str, what: str, reasons: tuple[str, ...], timeout: float, row: str = JOINTS) -> GraphFault:
        return _lie(name, row, {"states": what}, reasons, timeout, still)

    def harmless(name: str, row: str, **what: Any) -> GraphFault:  # noqa: ANN401 (what JSON holds)
        return GraphFault(name, row, lambda s: s.tampered(**what), Scenario.take_away, "tampered", "RUN", (), None)

    return [
        camera("a camera falls silent", "silent"),
        camera("a camera freezes with fresh stamps", "frozen", (FROZEN_NOTICE, "way of the arm until it shows")),
        camera(
            "a camera freezes but for one flickering pixel",
            "flickering",
            (FROZEN_NOTICE, "way of the arm until it shows"),
        ),
        camera("a camera goes black", "black"),
        camera("a camera goes black but for 3 % of the image", "dark"),
        camera("a camera shows uniform gray", "gray"),
        camera("a camera shows noise", "noise"),
        camera("a camera is blinded", "white"),
        camera("a camera changes its size", "half"),
        camera("a camera changes its encoding", "encoding"),
        GraphFault(
            "a camera's stamps are 0.2 s behind",
            CAMERA,
            lambda s: s.tampered(images={first: "skewed"}),
            Scenario.take_away,
            "tampered",
            "",
            (),
            None,
            note="its pictures meet older ones of the other camera, and count as old as those",
        ),
        _lie("two cameras are swapped", CAMERA, {"swapped": True}, ("policy_waiting",), wait, seen),
        joints("joint states fall silent", "silent", ("state_stale",), timing.state_timeout),
        joints("joint states lack a joint", "partial", ("state_width",), 0.0),
        joints("a joint is measured as NaN", "nan", ("state_not_finite",), 0.0, NUMBERS),
        joints("a joint is measured at 1e300", "huge", ("state_out_of_range",), 0.0, NUMBERS),
        joints("a joint is 0.5 rad from its command", "far", ("tracking",), 0.0),
        joints("the driver repeats one joint state", "repeated", ("state_stale",), timing.state_timeout),
        harmless("joint states come in another order of joints", JOINTS, states="reordered"),
        harmless("joint states overtake each other", JOINTS, states="late"),
        _lie(
            "everything that the robot says is lost",
            "partition, restart, death of the filter",
            {"deaf": True},
            ("state_stale",),
            timing.state_timeout,
            (0.0, ""),
        ),
        harmless("all clocks jump an hour ahead", CLOCK, offset=HOUR),
        harmless("/clock alone jumps an hour ahead", CLOCK, clock_offset=HOUR),
        GraphFault(
            "all clocks jump an hour back",
            CLOCK,
            _an_hour_back,
            Scenario.take_away,
            "tampered",
            "RUN",
            (),
            None,
            note="after they have gone an hour ahead",
        ),
    ]


def _lie(
    name: str,
    row: str,
    what: dict[str, Any],
    reasons: tuple[str, ...],
    timeout: float,
    notice: tuple[float, str],
) -> GraphFault:
    return GraphFault(
        name, row, lambda s: s.tampered(**what), Scenario.take_away, "tampered", "HOLD", reasons, timeout, notice
    )


def _an_hour_back(scenario: Scenario) -> float:
    """Jump an hour ahead during motion and, once the arm moves again, an hour back."""
    scenario.tampered(offset=HOUR)
    scenario.wait_until_moving()
    return scenario.tampered()
