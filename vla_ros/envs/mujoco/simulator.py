"""Runs the simulated robot: one thread steps the workcell, feeds its controllers and publishes its sensors.

Real time: an instant every `CONTROL_PERIOD`, at deadlines of the steady clock; when the machine is late, simulation
time slips, without bursts to catch up. Lockstep: time stands still until the command for the current instant has
arrived, so that a seed reproduces bit for bit on any machine. Order within one instant t:

    clock(t), state(t), status -> frames of t if due -> physics from t to t + CONTROL_PERIOD
                                                        [lockstep: once the commands for t have arrived and, during a
                                                         task, the policy's answer to the newest frames]
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from vla_ros.envs.env import TaskStatus
from vla_ros.envs.mujoco.cameras import CameraThread, Frame, Snapshot
from vla_ros.envs.mujoco.clock_slip import ClockSlip
from vla_ros.envs.mujoco.controller import TrajectoryController, TrajectoryError, TrajectoryPoint
from vla_ros.envs.mujoco.lockstep import LockstepGate
from vla_ros.envs.mujoco.model import TIMESTEP
from vla_ros.envs.registry import make_env
from vla_ros.errors import InstructionError, VlaError
from vla_ros.robot.contract import ArmContract, RobotContract
from vla_ros.types import FloatArray, RobotState

CONTROL_PERIOD = 0.01
"""Period at which the robot is measured and commanded, s of simulation time."""

MOST_BEHIND = 0.05
"""Maximum delay that a late machine makes up at once, s; commands contain the rows of the last 0.04 s."""

STATUS_PERIOD = 0.1
"""Period of the success checker, s of simulation time."""

RESET_INSTANTS = 5
"""Number of states of a new scene published before its reset is reported as done."""

RESET_SILENCE = 0.4
"""Time without joint states after a reset in real time, s. To the safety layer, a joint that jumps between two states
is a measurement error, whereas a driver that was silent has been restarted."""

SEEN_INSTANTS = 20
"""Control periods between a reset request and the reset in real time: the safety layer must first have measured the
arm at its last command, since it refuses to arm where the driver may have frozen in motion."""

CAMERA_WAIT = 10.0
"""Maximum wall time for rendering in lockstep, s."""


@dataclass(frozen=True)
class Command:
    """A received trajectory: joint `names`, `points`, `start` s in simulation time (None: on arrival)."""

    names: tuple[str, ...]
    points: tuple[TrajectoryPoint, ...]
    start: float | None


@dataclass(frozen=True)
class SimulatorOptions:
    """Settings of a simulation.

    Attributes:
        world: Name in the table of worlds.
        seed: Determines the scene.
        instruction: Instruction for which the scene is prepared; None lets the scene choose.
        real_time_factor: Simulated seconds per second, as far as the machine keeps up.
        lockstep: Advance one control period per command.
        camera_sizes: (height, width) px by camera, in place of the contract's.
        camera_rates: Frame rate by camera, Hz of simulation time, in place of the contract's.
    """

    world: str = "pick"
    seed: int = 0
    instruction: str | None = None
    real_time_factor: float = 1.0
    lockstep: bool = False
    camera_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    camera_rates: Mapping[str, float] = field(default_factory=dict)


class _ArmControllers:
    """The controllers of one arm and its gripper, with the newest command for each."""

    def __init__(self, contract: ArmContract) -> None:
        joints, gripper, hold = contract.joints, contract.gripper, contract.controllers.command_timeout
        self._contract = gripper
        self.arm = TrajectoryController(joints.names, joints.home, hold, velocity_limits=joints.velocity)
        self.gripper = TrajectoryController(gripper.names, np.zeros(len(gripper.names)), hold)
        self.arm_command: Command | None = None
        self.gripper_command: Command | None = None

    def take_commands(self) -> list[tuple[TrajectoryController, Command]]:
        """Return the commands received since the last call, each with its controller."""
        waiting = ((self.arm, self.arm_command), (self.gripper, self.gripper_command))
        self.arm_command = self.gripper_command = None
        return [(controller, command) for controller, command in waiting if command is not None]

    def reset(self, positions: FloatArray, opening: float) -> None:
        """Discard all commands; hold joint positions (n,) rad and the gripper at `opening` m."""
        self.arm.reset(positions)
        self.gripper.reset(np.array(self._contract.joint_positions(opening)))
        self.arm_command = self.gripper_command = None

    def opening(self, moment: float) -> float:
        """Return the gripper's reference opening at `moment` s, m."""
        return self._contract.opening(self.gripper.sample(moment))


class Outputs(Protocol):
    """Callbacks of a simulation, called in its threads; must not block. Times are simulation time, s."""

    def clock(self, time: float) -> None:
        """Simulation time has reached `time`."""

    def state(self, state: RobotState) -> None:
        """The robot's sensors measured `state`."""

    def frames(self, frames: Sequence[Frame]) -> None:
        """Cameras took `frames` of one instant."""

    def status(self, status: TaskStatus, instruction: str, time: float) -> None:
        """The success checker has returned a verdict."""

    def warn(self, sentence: str) -> None:
        """An input was rejected, or did not arrive in time."""

    def failed(self, sentence: str) -> None:
        """The simulation has ended with an error, and will not continue."""


class Simulator:
    """A workcell with its controllers and its thread. Simulation time never goes back, not even on a scene reset."""

    def __init__(self, contract: RobotContract, options: SimulatorOptions, outputs: Outputs) -> None:
        """Build the workcell, its controllers and cameras; time stands still until `run`.

        Raises:
            SimulationError: when the workcell cannot be built or rendered.
        """
        self._contract, self._options, self._outputs = contract, options, outputs
        self._change = threading.Condition()
        self._closed, self._running = False, False
        self._jobs: list[Callable[[], None]] = []
        self._task_active = False
        self._ticket = 0
        self._gate = LockstepGate(self._change, self._interrupted, outputs.warn, len(contract.arms))
        # The first instant is 1: a stamp of zero means "on arrival" in a trajectory and "no time yet" on /clock.
        self._instant = 0
        self._all_due = False
        self._announce: tuple[int, Callable[[], None]] = (0, lambda: None)
        self.missed_ticks = 0
        self._slip = ClockSlip(-time.monotonic())
        self._silent_until = -np.inf  # reading of the steady clock, s
        self._rates = {c.name: c.rate_hz for c in contract.cameras} | dict(options.camera_rates)
        self._cell = make_env(options.world, contract)
        self._arms = tuple(_ArmControllers(arm) for arm in contract.arms)
        self._load_scene(options.seed, options.instruction)
        self._cameras = CameraThread(contract, options.camera_sizes, outputs.frames, outputs.failed, options.world)
        self._thread = threading.Thread(target=self._guarded_loop, name="physics", daemon=True)
        self._thread.start()

    # Methods that other threads may call.

    def run(self, running: bool = True) -> None:
        """Start simulation time, or stop it."""
        with self._change:
            self._running = running
            self._change.notify_all()

    def time_of(self, system_time: float) -> float:
        """Convert system time to simulation time, both s; valid in real time with `real_time_factor` 1."""
        return system_time - (time.time() - time.monotonic()) + self._slip.ahead

    def command_arm(self, command: Command, arm: int = 0) -> None:
        """Store a trajectory for the controller of arm number `arm`; the newest one wins."""
        with self._change:
            controllers = self._arms[arm]
            controllers.arm_command = command
            self._gate.answer("arm", command.start, arm)
            if not controllers.gripper.names:  # no gripper: do not wait for its command
                self._gate.answer("gripper", command.start, arm)

    def command_gripper(self, command: Command, arm: int = 0) -> None:
        """Store a trajectory for the gripper controller of arm number `arm`; the newest one wins."""
        with self._change:
            self._arms[arm].gripper_command = command
            self._gate.answer("gripper", command.start, arm)

    def chunk_arrived(self, observation_stamp: float) -> None:
        """Lockstep: record a chunk for the observation of `observation_stamp` s."""
        with self._change:
            self._gate.chunk_arrived(observation_stamp)

    def policy_spoke(self, inferences: int, fault: bool) -> None:
        """Lockstep: record the policy's number of finished inferences, whose chunks every subscriber has received."""
        with self._change:
            self._gate.policy_spoke(inferences, fault)

    def follow_instruction(self, instruction: str | None) -> None:
        """Set the success checker's instruction; None: no task, and lockstep does not wait for a policy."""

        def follow() -> None:
            self._task_active = instruction is not None
            if instruction is not None:
                if self._options.lockstep and not self._gate.in_step:
                    self._begin_instant()  # nodes that joined late have missed this instant's frames
                try:
                    self._cell.set_instruction(instruction)
                except InstructionError as error:
                    self._outputs.warn(f"the judge keeps '{self._cell.instruction}': {error}")

        self._submit(follow)

    def reset(self, seed: int, instruction: str | None, timeout: float = 10.0) -> tuple[str, tuple[str, ...]]:
        """Create a new scene; return its instruction and the names of its objects.

        While time runs it returns only after the robot's state in the new scene has been published a few times: a node
        that arms the robot next must not mistake the old state for the current one.

        Raises:
            VlaError: when the instruction names no object of the workcell; the scene is then unchanged.
            TimeoutError: when the physics thread did not reset within `timeout` s.
        """
        done = threading.Event()
        outcome: list[VlaError | tuple[str, tuple[str, ...]]] = []

        def load() -> None:
            try:
                outcome.append(self._load_scene(seed, instruction))
            except VlaError as error:
                outcome.append(error)
                done.set()
            self._announce = (1 if self._options.lockstep else RESET_INSTANTS, done.set)
            if not self._running:
                done.set()

        due = 0 if self._options.lockstep else self._instant + SEEN_INSTANTS

        def load_when_seen() -> None:
            if self._running and self._instant < due:
                self._submit(load_when_seen)
            else:
                load()

        self._submit(load_when_seen)
        if not done.wait(timeout):
            raise TimeoutError(f"the simulation did not reset within {timeout} s")
        if isinstance(outcome[0], VlaError):
            raise outcome[0]
        return outcome[0]

    def close(self) -> None:
        """End the threads."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join(timeout=10.0)
        self._cameras.close()

    # Methods of the physics thread (`_submit` and `_interrupted`: any thread).

    def _submit(self, job: Callable[[], None]) -> None:
        with self._change:
            self._jobs.append(job)
            self._change.notify_all()

    def _interrupted(self) -> bool:
        return self._closed or not self._running or bool(self._jobs)

    @property
    def _time(self) -> float:
        return self._instant * CONTROL_PERIOD

    def _load_scene(self, seed: int, instruction: str | None) -> tuple[str, tuple[str, ...]]:
        scene = (seed, instruction)
        text = self._cell.reset(*scene)
        self._scene, self._ticks = scene, 0
        self._instant += 1  # the previous instant has been published: no two states may share a stamp
        if not self._options.lockstep:
            self._silent_until = time.monotonic() + RESET_SILENCE
        state, first = self._cell.state(), 0
        for one, opening in zip(self._arms, state.gripper_openings, strict=True):
            end = first + len(one.arm.names)
            one.reset(state.joint_positions[first:end], opening)
            first = end
        return text, tuple(item.name for item in self._cell.objects)

    def _guarded_loop(self) -> None:
        try:
            self._loop()
        except Exception as error:  # a thread that ended silently would look like a robot at rest
            self._outputs.failed(f"the simulation ended: {type(error).__name__}: {error}")

    def _loop(self) -> None:
        deadline = time.monotonic()
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._running or self._jobs)
                if self._closed:
                    return
                jobs, self._jobs = self._jobs, []
                running = self._running
            for job in jobs:
                job()
            if not running:
                deadline = time.monotonic()
                continue
            self._slip.follow(self._time - deadline, CONTROL_PERIOD)
            self._show_instant()
            if not self._options.lockstep:
                deadline = self._await_deadline(deadline)
            elif not self._await_answers():
                continue
            self._advance()

    def _await_deadline(self, deadline: float) -> float:
        """Sleep until the end of this control period; return the deadline of the next.

        After a missed deadline the next period follows at once; only a delay beyond `MOST_BEHIND` is dropped.
        """
        deadline += CONTROL_PERIOD / self._options.real_time_factor
        delay = deadline - time.monotonic()
        if delay > 0.0:
            time.sleep(delay)
        elif delay < -MOST_BEHIND:
            self.missed_ticks += 1
            return deadline - delay - MOST_BEHIND
        return deadline

    def _show_instant(self) -> None:
        """Publish clock, state and status of this instant; its frames follow once rendered."""
        now = self._time
        self._outputs.clock(now)
        if time.monotonic() >= self._silent_until:
            self._outputs.state(replace(self._cell.state(), stamp=now))
            self._announced()
        due = tuple(name for name, rate in self._rates.items() if self._all_due or _due(self._ticks, rate))
        if due and not self._gate.is_planned(now):
            self._ticket = self._cameras.request(Snapshot(now, self._cell.data.qpos.copy(), self._scene, due))
            self._gate.frames_taken(now)
        if self._ticks % round(STATUS_PERIOD / CONTROL_PERIOD) == 0:
            self._outputs.status(self._judge(), self._cell.instruction, now)

    def _announced(self) -> None:
        """Count a state published after a reset; notify the waiting caller at the last one required."""
        count, tell = self._announce
        if count == 1:
            tell()
        self._announce = (max(count - 1, 0), tell)

    def _begin_instant(self) -> None:
        """Advance the clock alone by one period and publish everything again: no two images may share a stamp."""
        self._instant += 1
        self._all_due = True

    def _await_answers(self) -> bool:
        """Lockstep: wait for everything this instant requires; return False when it must be published again."""
        if not self._cameras.wait(self._ticket, CAMERA_WAIT):
            self._outputs.warn(f"the cameras took more than {CAMERA_WAIT} s for the frames of {self._time:.2f} s")
        if self._task_active and not self._gate.await_policy():
            if not self._interrupted():
                self._begin_instant()
            return False
        return self._gate.await_command(self._time)

    def _judge(self) -> TaskStatus:
        try:
            return self._cell.task_status()
        except InstructionError as error:
            return TaskStatus(False, 0.0, "", str(error))

    def _advance(self) -> None:
        with self._change:
            commands = [command for one in self._arms for command in one.take_commands()]
        now = self._time
        for controller, command in commands:
            try:
                controller.accept(command.names, command.points, now, command.start)
            except TrajectoryError as error:
                self._outputs.warn(f"command refused: {error}")
        for step in range(1, round(CONTROL_PERIOD / TIMESTEP) + 1):
            moment = now + step * TIMESTEP
            positions = np.concatenate([one.arm.sample(moment) for one in self._arms])
            self._cell.command(positions, [one.opening(moment) for one in self._arms])
            self._cell.step(TIMESTEP)
        self._ticks += 1
        self._instant += 1
        self._all_due = False


def _due(tick: int, rate: float) -> bool:
    """Return whether a camera of `rate` Hz takes an image at `tick`: the first instant at or after each k / rate."""
    count = int(tick * CONTROL_PERIOD * rate + 1e-9)
    return tick == 0 or count > int((tick - 1) * CONTROL_PERIOD * rate + 1e-9)
