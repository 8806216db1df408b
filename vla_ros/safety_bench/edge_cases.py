"""Edge cases that run in a single process: arming, holding, time, size."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml

from vla_ros.errors import VlaError
from vla_ros.paths import share_file
from vla_ros.perception.health import CameraFault, CameraHealth
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.motion.obstacles import Obstacle
from vla_ros.safety.parameters import SAFETY_FILE, parse_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.record import SelftestRecord, fingerprint, recall
from vla_ros.safety.selftest.shadow import STEP
from vla_ros.safety.watch.policy import Condition
from vla_ros.safety_bench.edge_displaced import displaced_cases, moved_in_gap
from vla_ros.safety_bench.edge_session import MOVING, Session
from vla_ros.safety_bench.edges import EdgeCase, EdgeTrial
from vla_ros.safety_bench.plants import Lie, Plant, PlantShadow
from vla_ros.types import FloatArray

Play = Callable[[EdgeTrial], None]

BLIND_WAY = 0.08
"""Longest tool travel after its measurement stops following, m: about what a tracking tolerance of 0.1 rad allows an
arm of 0.8 m anyway."""


def edge_cases() -> tuple[EdgeCase, ...]:
    """Return every case, in order of its line."""
    return (
        EdgeCase(1, "disarmed in motion and armed at once", _rearm(Lie.NONE)),
        EdgeCase(1, "disarmed in motion and armed at once, no velocity reported", _rearm(Lie.STILL)),
        *(EdgeCase(2, f"armed with {lie.value}", _arm_with(lie)) for lie in (Lie.ONE_FALSE, Lie.ALTERNATING)),
        EdgeCase(2, "a driver that reports no velocity is armed while it moves", _arm_while_moving),
        EdgeCase(3, "a record that was written by hand", _forged),
        *displaced_cases(),
        *(EdgeCase(6, f"positions freeze at {speed} m/s", _blind(Lie.FROZEN, speed)) for speed in (0.2, 0.02)),
        EdgeCase(6, "two joints swapped in motion", _blind(Lie.SWAPPED, 0.2)),
        EdgeCase(6, "a joint measured 0.2 rad off", _blind(Lie.OFFSET, 0.2)),
        EdgeCase(6, "stamps jump 0.5 s ahead in motion", _stamps_ahead),
        *(EdgeCase(16, f"nothing is sent for {gap} s, in motion", _gap(gap)) for gap in (0.03, 0.1, 1.0)),
        EdgeCase(16, "nothing is sent for 5 s, and the arm is moved meanwhile", moved_in_gap),
        EdgeCase(16, "fast motion with stops", _motion),
        EdgeCase(17, "a sheet of 4 mm at 10 Hz", _sheet),
        EdgeCase(17, "a larger self_distance", _self_distance),
        EdgeCase(19, "a joint of the description that is not in the contract", _unknown_joint),
        EdgeCase(19, "a line that stands twice in the safety configuration", _twice),
        *(EdgeCase(20, f"a camera that shows {name}", _camera(name)) for name in IMAGES),
        EdgeCase(20, "a frozen camera with one flickering pixel", _frozen_with_a_flicker),
    )


def _rearm(lie: Lie) -> Play:
    """Disarm in motion, and request arming at every tick from then on."""

    def play(trial: EdgeTrial) -> None:
        for moment in range(4):
            session = Session(trial, Plant(lag=0.03))
            session.under_way(trial)
            session.move(5 * moment)
            session.shadow.plant.lie = lie
            session.shadow.supervisor.disarm(session.shadow.now)
            for _ in range(60):
                session.arm()
                session.shadow.tick()
            session.move(40)
            trial.judge(session.shadow, session.armings)

    return play


def _arm_with(lie: Lie) -> Play:
    """Arm at every moment while the driver reports wrong states: the first command must match the arm's position."""

    def play(trial: EdgeTrial) -> None:
        for moment in range(0, 24, 2):
            session = Session(trial)
            session.shadow.plant.offset = 0.4 * np.eye(trial.contract.joints.count)[1]
            session.shadow.wait(20)
            for i in range(40):
                if i == moment or (lie is Lie.ALTERNATING and i > moment):
                    session.shadow.plant.lie = lie
                session.shadow.tick()
                session.arm()
            session.move(20)
            trial.judge(session.shadow, session.armings)

    return play


def _arm_while_moving(trial: EdgeTrial) -> None:
    """The arm still approaches its last command, slowly, while its driver reports that it is at rest."""
    session = Session(trial, Plant(lag=0.4))
    session.shadow.plant.place(session.shadow.q - 0.3 * np.eye(trial.contract.joints.count)[0])
    session.shadow.plant.lie = Lie.STILL
    for _ in range(30):
        session.shadow.tick()
        speed = float(np.abs(session.shadow.velocities).max())
        moving = speed > 2.0 * trial.parameters.motion.arming_speed
        if session.arm() is Reason.OK and moving:
            trial.complaints.append(f"armed at {speed:.2f} rad/s")
            return


def _forged(trial: EdgeTrial) -> None:
    mark = fingerprint(trial.contract, trial.parameters)
    with tempfile.TemporaryDirectory() as folder:
        forged = SelftestRecord(mark, 1, (), time.time())
        lines = {"fingerprint": mark, "tried": 1, "missed": [], "finished": forged.finished}
        (Path(folder) / f"{mark}.json").write_text(json.dumps(lines), encoding="utf-8")
        with contextlib.suppress(VlaError):
            trial.require(recall(Path(folder), mark, 3600.0) is None, "a record of one fault counts as a pass")


def _blind(lie: Lie, speed: float) -> Play:
    def play(trial: EdgeTrial) -> None:
        session = Session(trial)
        session.under_way(trial, speed)
        shadow = session.shadow
        shadow.plant.offset = 0.2 * np.eye(len(shadow.q))[1]
        shadow.plant.lie, begin = lie, shadow.pose().position
        session.move(400, speed, lambda: shadow.supervisor.state not in MOVING)
        way = float(np.linalg.norm(shadow.pose().position - begin))
        trial.require(shadow.supervisor.state not in MOVING, "never noticed")
        trial.require(way <= BLIND_WAY, f"driven on for {1e3 * way:.0f} mm")
        trial.judge(shadow, session.armings)

    return play


def _stamps_ahead(trial: EdgeTrial) -> None:
    session = Session(trial)
    session.under_way(trial)
    session.shadow.stamp += 0.5
    reasons = set()
    for _ in range(3):
        reasons.add(session.shadow.tick().reason)
    trial.require(Reason.CLOCK_JUMP.label in reasons, f"not noticed, only {sorted(reasons)}")
    session.move(40)
    trial.judge(session.shadow, session.armings)


def _gap(seconds: float) -> Play:
    def play(trial: EdgeTrial) -> None:
        for moment in range(6):
            session = Session(trial)
            session.under_way(trial, 0.4)
            session.move(7 + 3 * moment, 0.4)
            shadow = session.shadow
            ticks = round(seconds / shadow.period)
            for _ in range(ticks):  # the safety layer does not run, states continue
                shadow.pass_time()
                shadow.coast()
                shadow.sense()
            session.move(80, 0.4)
            trial.require(shadow.supervisor.state in MOVING, f"it does not go on: {shadow.supervisor.reason.label}")
            trial.judge(shadow, session.armings)

    return play


def _motion(trial: EdgeTrial) -> None:
    session = Session(trial)
    session.under_way(trial, 0.45)
    for _ in range(4):
        session.move(70, 0.45)
        session.shadow.heart = None
        for _ in range(20):
            session.shadow.tick()
        session.shadow.heart = Condition.RUNNING
    trial.judge(session.shadow, session.armings)


def _sheet(trial: EdgeTrial) -> None:
    """A sheet stands on edge in front of the hand; at 10 Hz the tool moves by 50 mm per tick."""
    home = PlantShadow(trial.contract, trial.parameters, Plant()).pose().position
    kept = trial.parameters.collision.obstacle_distance
    for turn in np.linspace(0.0, np.pi, 5):
        place = home + np.array([0.0, 0.22, 0.0])
        sheet = Obstacle.box("sheet", np.array([0.25, 0.004, 0.25]), place)
        sheet = replace(sheet, rotation=np.array([turn, 0.0, 0.5 * turn]))
        timing = replace(trial.parameters.timing, rate_hz=10.0)
        slow = replace(trial.parameters, timing=timing, obstacles=(*trial.parameters.obstacles, sheet))
        try:
            shadow = PlantShadow(trial.contract, slow, Plant())
        except VlaError:  # the sheet touches the arm at home
            continue
        model = CollisionModel(trial.contract, slow.collision, slow.obstacles)
        chosen = [pair.name.endswith("sheet") for pair in model.pairs]
        shadow.start()
        for i in range(60):
            shadow.ask(shadow.way((0.0, (STEP if i % 30 < 20 else -STEP), 0.002)))
            shadow.tick()
        nearest = min(float(model.distances(q)[chosen].min()) for q in _densely(shadow.commands))
        trial.require(nearest > 0.0, f"the sheet is penetrated by {-1e3 * nearest:.1f} mm")
        trial.require(
            nearest > 0.5 * kept, f"the sheet is {1e3 * nearest:.1f} mm away, {1e3 * kept:.1f} mm are asked for"
        )


def _densely(commands: list[FloatArray]) -> list[FloatArray]:
    moves = [(a, b) for a, b in pairwise(commands) if (a != b).any()]
    return [commands[0], *(a + part * (b - a) for a, b in moves for part in np.linspace(0.1, 1.0, 10))]


def _self_distance(trial: EdgeTrial) -> None:
    usual = CollisionModel(trial.contract, trial.parameters.collision, trial.parameters.obstacles)
    wide = replace(trial.parameters.collision, self_distance=0.2)
    try:
        model = CollisionModel(trial.contract, wide, trial.parameters.obstacles)
    except VlaError:
        return  # rejected, naming the pairs
    gone = {pair.name for pair in usual.pairs} - {pair.name for pair in model.pairs}
    named = " ".join(getattr(model, "concessions", ()))
    silent = [name for name in gone if name not in named]
    trial.require(not silent, f"{len(silent)} pairs were dropped silently")


def _unknown_joint(trial: EdgeTrial) -> None:
    """A lift of 0.3 m below the arm that the contract does not name."""
    text = trial.contract.urdf.read_text(encoding="utf-8")
    root = trial.contract.base_frame
    lift = (
        '<link name="floor"/><joint name="torso_lift" type="prismatic"><parent link="floor"/>'
        f'<child link="{root}"/><axis xyz="0 0 1"/><limit lower="0" upper="0.3" effort="1" velocity="1"/></joint>'
    )
    with tempfile.TemporaryDirectory() as folder:
        urdf = Path(folder) / "lifted.urdf"
        urdf.write_text(text.replace("</robot>", f"{lift}</robot>"), encoding="utf-8")
        lifted = replace(trial.contract, urdf=urdf, base_frame="floor")
        try:
            PlantShadow(lifted, trial.parameters, Plant())
        except VlaError as error:
            trial.require("torso_lift" in str(error), f"refused, but not by name: {error}")
            return
    trial.complaints.append("torso_lift is taken to stand at zero")


def _twice(trial: EdgeTrial) -> None:
    path = Path(share_file(SAFETY_FILE))
    text = path.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.strip().startswith("obstacle_distance:"))
    doubled = text.replace(line, f"{line}\n  obstacle_distance: 0.4")
    try:
        parse_parameters(doubled, path.name)
    except (VlaError, yaml.YAMLError) as error:
        trial.require("obstacle_distance" in str(error), f"refused, but not by name: {error}")
        return
    trial.complaints.append("of two lines with one name the last one counts")


def _noise(rng: np.random.Generator) -> FloatArray:
    return np.asarray(rng.integers(0, 256, (120, 160, 3)))


def _grey(rng: np.random.Generator) -> FloatArray:
    return np.full((120, 160, 3), 128.0)


def _dark(rng: np.random.Generator) -> FloatArray:
    image = np.zeros((120, 160, 3))
    image[:4] = rng.integers(60, 200, (4, 160, 3))  # 97 % are black
    return image


IMAGES: dict[str, Callable[[np.random.Generator], FloatArray]] = {
    "noise": _noise,
    "uniform grey": _grey,
    "97 % black": _dark,
}


def _small_camera(trial: EdgeTrial) -> CameraHealth:
    return CameraHealth(replace(trial.contract.cameras[0], height=120, width=160))


def _frozen_with_a_flicker(trial: EdgeTrial) -> None:
    """A scene that is static except for one pixel, while the arm moves."""
    rng, health = np.random.default_rng(0), _small_camera(trial)
    scene = np.kron(rng.integers(0, 256, (12, 16, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    for i in range(20):
        image = scene.copy()
        image[60, 80] ^= i % 256
        health.check(image, 0.05 * i)
        fault = health.check_motion(image, trial.contract.joints.home + 0.02 * i, 0.05 * i)
    trial.require(fault is CameraFault.FROZEN, f"a frozen image with a flickering pixel counts as {fault.value}")


def _camera(name: str) -> Play:
    def play(trial: EdgeTrial) -> None:
        rng, health = np.random.default_rng(0), _small_camera(trial)
        for i in range(20):
            fault = health.check(IMAGES[name](rng).astype(np.uint8), 0.05 * i)
        trial.require(fault is not CameraFault.NONE, f"{name} counts as healthy")

    return play
