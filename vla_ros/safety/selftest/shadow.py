"""Dry run: a separate supervisor with ideal arms, a clock and an arbitrary policy; nothing here reaches a motor.

shadow = Shadow(contract, parameters)
shadow.move()                                   # armed and moving at full speed
answer = shadow.send(shadow.chunk(actions))     # Reason.OK, or the reason for rejection
decision = shadow.tick()                        # a state arrives, the supervisor ticks, the arm executes the command
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pinocchio

from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, encode_chunk
from vla_ros.errors import ObservationError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.inverse_kinematics import nearest_posture
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.motion.collision import WAVER, CollisionModel
from vla_ros.safety.motion.joint_motion import JointStep
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.supervisor import SafetySupervisor
from vla_ros.safety.watch.policy import Condition, Heartbeat
from vla_ros.types import ActionChunk, FloatArray, Pose, RobotState, SafetyDecision

CHUNK_TICKS = 10
"""Time between two chunks of a well-behaved policy, table ticks."""

TABLE_TICK = 0.01
"""Table tick, s: unit of time in the fault table, a tick of the rate that it was written for."""

STEP = 0.025
"""Tool displacement per row of the dry run's motion, m."""

GIVE = 0.1
"""Fraction of a command that an arm still follows against an obstacle: compliance of servos and links."""

ROOM = 5 * STEP
"""Free space required to the left of home, m: `move` uses half of it, the rest is for what follows."""


class Shadow:
    """Dry run of the safety layer; the steady clock and the sensor's clock are unrelated, as on a robot."""

    def __init__(self, contract: RobotContract, parameters: SafetyParameters, q: FloatArray | None = None) -> None:
        """Place the arm at joint positions `q` (n,) rad, by default at home; disarmed."""
        # Of several arms one is active (the leading arm, or else the first), and the others are commanded to stay.
        contract = contract if not contract.each_arm or contract.lead else contract.led_by(contract.arms[0].name)
        self.contract, self.parameters = contract, parameters
        self._lead = [arm.name for arm in contract.arms].index(contract.leading.name)
        self.heart: Condition | None = Condition.RUNNING
        self.computing, self.inferences = False, 0
        self.restart_layer()
        self.kinematics = Kinematics(contract)
        # For a tool with a lower speed limit, or near a face of the workspace, the motion is scaled down: otherwise
        # every valid plan would be corrected.
        home, box = self.kinematics.forward(contract.joints.home).position, contract.cartesian
        room = max(float(box.workspace_upper[1] - home[1]), 0.0)
        self.gait = min(1.0, box.linear_velocity * contract.action.period / STEP, room / ROOM)
        self.q: FloatArray = np.array(contract.joints.home if q is None else q, dtype=np.float64)
        self.velocities: FloatArray = np.zeros(contract.joints.count)
        self.accelerations: FloatArray = np.zeros(contract.joints.count)
        self.obstacle: tuple[FloatArray, FloatArray] | None = None  # (n,) rad, and its blocked directions (n,)
        self.external: FloatArray | None = None  # external torque, (n,) N m; if set, the driver reports efforts
        self.opened = tuple(arm.gripper.max_opening for arm in contract.arms)  # opening of each arm's gripper, m
        self.now, self.stamp = 5e2, 1e4
        self.sequence = self.instruction = 0
        self.commands: list[FloatArray] = [self.q.copy()]
        self.openings: list[float] = [self.opening]
        self.all_openings: list[tuple[float, ...]] = [self.opened]
        self.period = self.supervisor.period
        self.chunk_ticks = self.ticks(CHUNK_TICKS)

    def restart_layer(self) -> None:
        """Replace the safety layer by a new one without history; the arm is unchanged."""
        self.supervisor = SafetySupervisor(self.contract, self.parameters, heartbeat=True)
        self._followed: tuple[float, JointStep] | None = None
        self._coasted = 0  # number of rows of its stop that the arm has executed

    def ticks(self, count: int) -> int:
        """Convert a number of table ticks to ticks of this rate, at least 1."""
        return max(1, round(count * TABLE_TICK / self.period))

    @property
    def opening(self) -> float:
        """Opening of the active arm's gripper, m."""
        return self.opened[self._lead]

    @property
    def columns(self) -> slice:
        """Joints of the active arm."""
        return self.contract.joint_columns(self.contract.leading.name)

    @property
    def foot(self) -> FloatArray:
        """Base of the active arm at z = 0, (3,) m: the origin if it is the only arm."""
        if len(self.contract.arms) == 1:
            return np.zeros(3)
        first = self.kinematics.model.jointPlacements[1 + self.columns.start].translation
        return np.array([first[0], first[1], 0.0])

    def pose(self) -> Pose:
        """Return the tool pose."""
        return self.kinematics.forward(self.q)

    def state(
        self,
        *,
        positions: FloatArray | None = None,
        velocities: FloatArray | None = None,
        opening: float | None = None,
        stamp: float | None = None,
    ) -> RobotState:
        """Return the measured state, with the given values replaced."""
        q = self.q if positions is None else positions
        speed = self.velocities if len(q) == len(self.velocities) else np.zeros(len(q))
        speed, stamp = speed if velocities is None else velocities, self.stamp if stamp is None else stamp
        opened = list(self.opened)
        opened[self._lead] = self.opening if opening is None else opening
        if len(opened) > 1:
            return RobotState.of_arms(q, speed, opened, stamp)
        return RobotState(q, speed, opened[0], self.pose(), stamp, self._efforts())

    def _efforts(self) -> FloatArray | None:
        """Return the torques measured at the links, (n,) N m; None without an external torque."""
        if self.external is None:
            return None
        model = self.kinematics.model
        free = pinocchio.rnea(model, model.createData(), self.q, self.velocities, self.accelerations)
        return np.asarray(free - self.external, dtype=np.float64)

    def sense(self, state: RobotState | None = None) -> None:
        """Deliver a joint state; the supervisor records a rejected one as its fault, as in the node."""
        with contextlib.suppress(ObservationError):
            self.supervisor.receive_state(self.state() if state is None else state, self.now)

    def wait(self, ticks: int) -> None:
        """Deliver valid states for a number of periods, without supervisor ticks."""
        for _ in range(ticks):
            self.pass_time()
            self.sense()

    def pass_time(self) -> None:
        """Advance both clocks by one period, with a heartbeat of the policy unless `heart` is None."""
        self.now += self.period
        self.stamp += self.period
        if self.heart is not None:
            self.supervisor.receive_heartbeat(Heartbeat(self.heart, self.inferences, self.computing), self.now)

    def rewind(self) -> None:
        """Undo one `pass_time`, since the next `tick` repeats it: the messages received belong to its period."""
        self.now -= self.period
        self.stamp -= self.period

    def tick(self, sense: bool = True) -> SafetyDecision:
        """Run one period."""
        self.pass_time()
        if sense:
            self.sense()
        decision = self.supervisor.tick(self.now)
        if decision.joint_positions is None:
            self.velocities = np.zeros_like(self.q)
            self._followed = self._followed if self.supervisor.commanding else None
            return decision
        for row in self.missed_rows():
            self.carry_out(row, self.opened)
        self.follow(self.supervisor.commanded)
        self.carry_out(decision.joint_positions, decision.gripper_openings)
        return decision

    def coast(self) -> None:
        """Move the arm along its controller's stop up to now, without a tick."""
        if self._followed is None:
            return
        when, step = self._followed
        rows = step.without(round((self.now - when) / self.period))
        for row in rows[self._coasted :]:
            self.carry_out(row, self.opened)
        self._coasted = max(len(rows), self._coasted)

    def follow(self, step: JointStep) -> None:
        """Set the step whose stop the controller follows from now on."""
        self._followed, self._coasted = (self.now, step), 0

    def missed_rows(self) -> FloatArray:
        """Return the controller's positions in the missed ticks, (k, n) rad, along the stop."""
        if self._followed is None:
            return np.zeros((0, len(self.q)))
        when, step = self._followed
        return step.without(max(round((self.now - when) / self.period) - 1, 0))[self._coasted :]

    def carry_out(self, positions: FloatArray, openings: tuple[float, ...] | float) -> None:
        """Execute a command: joint positions (n,) rad and the opening of each gripper, m."""
        self.commands.append(np.array(positions))
        if self.obstacle is not None:
            place, blocked = self.obstacle
            positions = np.where(blocked * (positions - place) > 0.0, place + GIVE * (positions - place), positions)
        velocities = (positions - self.q) / self.period
        self.accelerations, self.velocities = (velocities - self.velocities) / self.period, velocities
        self.q = np.array(positions)
        self._grip(openings)

    def _grip(self, openings: tuple[float, ...] | float) -> None:
        self.opened = openings if isinstance(openings, tuple) else (openings,)
        self.openings.append(self.opening)
        self.all_openings.append(self.opened)

    def clearance(self, reason: Reason) -> float:
        """Return the smallest distance of one kind of pairs over all commands, m, computed with a separate model.

        Args:
            reason: OBSTACLE: distance to a declared obstacle. SELF_COLLISION: distance between links in excess of the
                required one.
        """
        model = CollisionModel(self.contract, self.parameters.collision, self.parameters.obstacles)
        chosen = np.array([pair.reason is reason for pair in model.pairs], dtype=bool)
        if not chosen.any():
            return np.inf
        if reason is Reason.OBSTACLE:
            return min(float(model.distances(q)[chosen].min()) for q in self.commands)
        kept = np.array([pair.distance for pair in model.pairs])
        kept = np.minimum(kept, model.distances(self.commands[0])) - WAVER
        return min(float((model.distances(q) - kept)[chosen].min()) for q in self.commands)

    def arm_start(self) -> ArmStart:
        """Return the arm as in an observation taken now."""
        return ArmStart(self.q.copy(), self.pose(), self.contract.gripper.max_opening)

    @property
    def of_joints(self) -> bool:
        """Whether the policy commands joints rather than the tool."""
        return self.contract.commands_joints

    def actions(
        self, positions: FloatArray, openings: FloatArray | float | None = None, quaternion: FloatArray | None = None
    ) -> FloatArray:
        """Return the rows that move the tool through `positions` (k, 3) m, by default with its current orientation.

        In joint space they are the postures nearest to these poses.
        """
        turn = self.pose().quaternion if quaternion is None else quaternion
        if not self.of_joints:
            quaternions = np.tile(turn, (len(positions), 1))
            return self._rows(ArmTrajectory(positions=positions, quaternions=quaternions), len(positions), openings)
        rows, rotation, q = [], matrix_from_quaternion(turn), self.q
        for i, position in enumerate(positions):
            if i == 0 or (position != positions[i - 1]).any():
                q = nearest_posture(self.kinematics, position, rotation, q)
            rows.append(q)
        return self.joint_actions(np.array(rows).reshape(-1, len(self.q)), openings)

    def joint_actions(self, rows: FloatArray, openings: FloatArray | float | None = None) -> FloatArray:
        """Return the rows that move the joints through `rows` (k, n) rad, for joint-space actions.

        `openings` are those of the active arm's gripper, (k,) m or one for all; or (k, arms) of every gripper.
        """
        return self._rows(ArmTrajectory(joint_positions=rows), len(rows), openings)

    def _rows(self, trajectory: ArmTrajectory, rows: int, openings: FloatArray | float | None) -> FloatArray:
        contract, lead, start = self.contract, self.contract.leading.name, self.arm_start()
        trajectories, starts = {}, {}
        for number, arm in enumerate(contract.arms):
            wide = arm.gripper.max_opening
            asked: FloatArray | float = wide
            if openings is not None and np.ndim(openings) == 2:
                asked = np.asarray(openings)[:, number]
            elif openings is not None and arm.name == lead:
                asked = openings
            opened = np.broadcast_to(np.asarray(asked, dtype=np.float64), (rows,))
            one, joints = replace(trajectory, openings=opened), contract.joint_columns(arm.name)
            if one.joint_positions is not None:
                one = replace(one, joint_positions=one.joint_positions[:, joints])
            trajectories[arm.name] = one
            starts[arm.name] = ArmStart(start.joint_positions[joints], start.pose, wide)
        return encode_chunk(trajectories, contract.action, starts)

    def way(self, step: FloatArray | tuple[float, float, float]) -> FloatArray:
        """Return (horizon, 3) m: places `gait * step` m apart, starting from the tool."""
        rows = self.gait * np.arange(1, self.contract.action.horizon + 1)
        return self.pose().position + np.outer(rows, np.asarray(step, dtype=np.float64))

    def place(self, position: FloatArray) -> FloatArray:
        """Return (horizon, 3) m: the same place in every row."""
        return np.tile(np.asarray(position, dtype=np.float64), (self.contract.action.horizon, 1))

    def chunk(self, actions: object, **changes: object) -> ActionChunk:
        """Return a chunk with arbitrary content; it bypasses the type's validation to test the checks behind it."""
        self.sequence += 1
        self.inferences += 1
        values: dict[str, object] = {
            "actions": actions,
            "period": self.contract.action.period,
            "observation_stamp": self.stamp,
            "specification": self.contract.action.fingerprint,
            "observation_sequence": 0,
            "instruction_sequence": self.instruction,
            "policy": "shadow",
            "trust": 1.0,
            "sequence": self.sequence,
        }
        chunk = object.__new__(ActionChunk)
        for name, value in (values | changes).items():
            object.__setattr__(chunk, name, value)
        return chunk

    def send(self, chunk: ActionChunk, start: ArmStart | Pose | None = None) -> Reason:
        """Pass a chunk to the supervisor and return its answer."""
        return self.supervisor.receive_chunk(chunk, self.arm_start() if start is None else start, self.now)

    def ask(self, positions: FloatArray, openings: FloatArray | float | None = None, **changes: object) -> Reason:
        """Send a valid chunk through `positions` (k, 3) m."""
        return self.send(self.chunk(self.actions(positions, openings), **changes))

    def stay(self) -> Reason:
        """Send a valid chunk that keeps the tool at its current pose."""
        return self.ask(self.place(self.pose().position))

    def start(self) -> Reason:
        """Arm and start following, with chunks that keep the arm in place; return the answer to arming."""
        self.wait(self.supervisor.settling_ticks)
        answer = self.supervisor.arm(self.now)
        for _ in range(self.parameters.timing.resume_chunks):
            self.stay()
            self.tick()
        return answer

    def move(self, ticks: int = 26) -> None:
        """Arm and start moving: the tool along y at `gait * STEP` m per row."""
        self.start()
        for i in range(self.ticks(ticks)):
            if i % self.chunk_ticks == 0:
                self.ask(self.way((0.0, STEP, 0.0)))
            self.tick()
