"""Compares three safety approaches on the same corrupted commands, and nominal runs with and without the safety layer.

filter   this package's safety layer
clamp    every value clipped to its limit, as common toolkits do: workspace box, joint range, joint step
latch    a chunk that violates a limit is rejected and stops the robot until it is reset

The scripted expert is the policy, so no images are needed. `disturb` corrupts its chunks, determined by seed and chunk
number alone.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pinocchio

from vla_ros.actions.decoding import decode, encode
from vla_ros.actions.rotation_vectors import rotation_vector_from_matrix, slerp
from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.actions.trajectory import ArmStart
from vla_ros.envs.collector import CONTROL_PERIOD
from vla_ros.envs.env import Env
from vla_ros.envs.tabletop.config import PICK
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.envs.tabletop.expert import observe_commands, plan_command
from vla_ros.errors import ChunkError, SimulationError, VlaError
from vla_ros.evaluation.executors import DirectExecutor, Executor, SafetyExecutor, arm_start
from vla_ros.evaluation.rollout import POLICY_LATENCY
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety_bench.referee.referee import Judgement, Referee
from vla_ros.types import ActionChunk, FloatArray, Instruction, Pose, RobotState, SafetyState

DAMPING = 0.02
MAX_SECONDS = 12.0
TURNING = 0.8
"""Maximum turning speed of the expert's tool, rad/s: unlimited, it would violate limits that nominal policies keep."""

BAD_EVERY = 8
"""Mean number of chunks per corrupted chunk."""

BAD_MEMORY = 1.2
"""Time after a corrupted chunk in which a stop does not count as false, s."""

Disturb = Callable[[ActionChunk, int], ActionChunk]


class ClampExecutor:
    """Clips every value on its own: no row order, no acceleration, no memory; NaN passes, as in `np.clip`."""

    def __init__(self, contract: RobotContract) -> None:
        """Clip by the limits of `contract`."""
        self._contract, self._kinematics = contract, Kinematics(contract)

    def start(self, env: Env, instruction: Instruction) -> None:
        """Start at the current state of `env`."""
        del instruction
        self._plan: tuple[ActionChunk, Pose] | None = None
        self.reference: FloatArray = np.array(env.state().joint_positions)
        self.opening = env.state().gripper_opening
        self.stopped = False

    def receive(self, chunk: ActionChunk, start: ArmStart, now: float) -> None:
        """Replace the plan."""
        del now
        self._plan = (chunk, start.pose)

    def control(self, env: Env, state: RobotState, now: float) -> None:
        """Take one clipped step towards the plan."""
        del state
        wanted, opening = self._target(now)
        self.reference = wanted
        self.opening = opening
        env.command(wanted, opening)

    def _target(self, now: float) -> tuple[FloatArray, float]:
        if self._plan is None:
            return self.reference, self.opening
        chunk, start = self._plan
        joints, box, gripper = self._contract.joints, self._contract.cartesian, self._contract.gripper
        place = (now + CONTROL_PERIOD - chunk.observation_stamp) / self._contract.action.period
        row = int(np.clip(place, 0, len(chunk.actions) - 1))
        actions = np.asarray(chunk.actions, dtype=np.float64)[[max(row - 1, 0), row]]
        if not np.isfinite(actions).all():  # arithmetic with NaN is NaN
            return np.full(joints.count, np.nan), self._opened
        try:
            two = decode(actions, self._contract.action, start, gripper.max_opening)
        except ChunkError:
            return self.reference, self.opening
        share = float(np.clip(place - row, 0.0, 1.0))
        before = start.position if row == 0 else two.positions[0]
        turned = start.quaternion if row == 0 else two.quaternions[0]
        target = np.clip(before + share * (two.positions[1] - before), box.workspace_lower, box.workspace_upper)
        step = self._step(target, slerp(turned, two.quaternions[1], share))
        most = joints.velocity * CONTROL_PERIOD
        q = np.clip(self._last + np.clip(step, -most, most), joints.lower, joints.upper)
        opening = self.opening if two.openings is None else float(np.clip(two.openings[1], 0.0, gripper.max_opening))
        change = gripper.velocity * CONTROL_PERIOD
        return q, float(self._opened + np.clip(opening - self._opened, -change, change))

    @property
    def _last(self) -> FloatArray:
        """The last finite reference: a robot's driver discards the others."""
        if np.isfinite(self.reference).all():
            self._sound = self.reference
        return self._sound

    @property
    def _opened(self) -> float:
        if np.isfinite(self.opening):
            self._wide = self.opening
        return self._wide

    def _step(self, position: FloatArray, quaternion: FloatArray) -> FloatArray:
        """Return the damped-least-squares joint step to the pose, over the whole distance at once."""
        here = self._kinematics.placement(self._last)
        turn = pinocchio.log3(matrix_from_quaternion(quaternion) @ here.rotation.T)
        error = np.concatenate([position - here.translation, turn])
        jacobian = self._kinematics.jacobian(self._last)
        gram = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        return np.asarray(jacobian.T @ np.linalg.solve(gram, error), dtype=np.float64)


class LatchExecutor(ClampExecutor):
    """Rejects a chunk that violates a limit as a whole, then holds until reset, which never happens."""

    def receive(self, chunk: ActionChunk, start: ArmStart, now: float) -> None:
        """Check the chunk; follow it or latch."""
        if self.stopped or not self._sound_chunk(chunk, start.pose):
            self.stopped = True
            self._plan = None
            return
        super().receive(chunk, start, now)

    def _sound_chunk(self, chunk: ActionChunk, start: Pose) -> bool:
        actions, contract = np.asarray(chunk.actions, dtype=np.float64), self._contract
        if actions.ndim != 2 or actions.shape[1] != contract.action.width or not np.isfinite(actions).all():
            return False
        try:
            trajectory = decode(actions, contract.action, start, contract.gripper.max_opening)
        except ChunkError:
            return False
        box = contract.cartesian
        way = np.vstack([start.position, trajectory.positions])
        inside = (way[1:] >= box.workspace_lower) & (way[1:] <= box.workspace_upper)
        speed = np.linalg.norm(np.diff(way, axis=0), axis=1) / contract.action.period
        return bool(inside.all() and (speed <= box.linear_velocity).all())


class RecordingEnv(TabletopEnv):
    """Environment that records the last command, even one that no robot would accept."""

    commanded: tuple[FloatArray, float]

    def command(self, joint_positions: FloatArray, gripper_opening: float | Sequence[float]) -> None:
        """Command the workcell; it rejects non-finite values and keeps the previous command."""
        self.commanded = np.array(joint_positions), float(np.asarray(gripper_opening, dtype=np.float64).item())
        with contextlib.suppress(SimulationError):
            super().command(joint_positions, gripper_opening)


@dataclass
class Play:
    """Result of one scene with one executor.

    Attributes:
        success: Whether the object was held up.
        seconds: Simulation time, s.
        judgement: The referee's findings in the commands.
        stops: Number of stops that began while the arm was moving.
        false_stops: Number of stops that no corrupted chunk preceded.
        stopped_ticks: Number of ticks in a stop.
        ticks: Number of ticks.
        corrected_ticks: Number of ticks in which the filter changed the motion (filter only).
        bad_chunks: Number of corrupted chunks sent.
        reasons: Number of ticks by reason for stopping or changing the motion (filter only).
        record: Chunks with their arrival times, for a replay.
    """

    success: bool = False
    seconds: float = 0.0
    judgement: Judgement = field(default_factory=Judgement)
    stops: int = 0
    false_stops: int = 0
    stopped_ticks: int = 0
    ticks: int = 0
    corrected_ticks: int = 0
    bad_chunks: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    record: list[tuple[float, ActionChunk, ArmStart]] = field(default_factory=list)


class Scene:
    """Runs expert, executor and physics together, without cameras."""

    def __init__(self, contract: RobotContract, parameters: SafetyParameters) -> None:
        """Build the workcell and the referee."""
        self.contract, self.parameters = contract, parameters
        self.cell, self.referee = RecordingEnv(contract, PICK), Referee(contract, CONTROL_PERIOD)

    def executors(self) -> dict[str, Executor]:
        """Return the executors of the three approaches."""
        return {
            "filter": SafetyExecutor(self.contract, self.parameters),
            "clamp": ClampExecutor(self.contract),
            "latch": LatchExecutor(self.contract),
        }

    def play(
        self,
        executor: Executor,
        seed: int,
        disturb: Disturb | None = None,
        *,
        recorded: Sequence[tuple[float, ActionChunk, ArmStart]] | None = None,
        seconds: float = MAX_SECONDS,
    ) -> Play:
        """Run the scene of `seed` until success or for `seconds`.

        Args:
            executor: Executor of the chunks.
            seed: Seed of the scene.
            disturb: Corrupts chunks on their way; a chunk that it returns unchanged counts as clean.
            recorded: Chunks of another run with their times, in place of the expert.
            seconds: Time limit, s.
        """
        cell, result = self.cell, Play()
        order = Instruction(cell.reset(seed), sequence=1)
        executor.start(cell, order)
        due, number, last_bad, was_running, in_stop = cell.time, 0, -np.inf, False, False
        waiting = [] if recorded is None else list(recorded)
        commands, openings = [], []
        while cell.time < seconds:
            state = cell.state()
            now = state.stamp
            if recorded is None and now >= due - 1e-9:
                due, number = due + self.contract.action.period, number + 1
                clean = self._expert_chunk(state, number)
                chunk = clean if disturb is None else disturb(clean, number)
                result.bad_chunks += chunk is not clean
                last_bad = now if chunk is not clean else last_bad
                waiting.append((now + POLICY_LATENCY, chunk, arm_start(state, self.contract)))
            while waiting and waiting[0][0] <= now + 1e-9:
                result.record.append(waiting[0])
                _, chunk, start = waiting.pop(0)
                self._deliver(executor, chunk, start, now)
            executor.control(cell, state, now)
            running, corrected = _look(executor)
            commands.append(cell.commanded[0])
            openings.append(cell.commanded[1])
            stopped = was_running and not running
            result.ticks += 1
            result.corrected_ticks += corrected
            if (stopped or corrected) and isinstance(executor, SafetyExecutor):
                result.reasons[executor.decisions[-1].reason] += 1
            result.stopped_ticks += stopped
            result.stops += stopped and not in_stop
            result.false_stops += stopped and not in_stop and recorded is None and now - last_bad > BAD_MEMORY
            was_running, in_stop = was_running or running, stopped
            cell.step(CONTROL_PERIOD)
            if cell.success():
                result.success = True
                break
        result.seconds = cell.time
        result.judgement = self.referee.judge(np.array(commands), np.array(openings))
        return result

    @staticmethod
    def _deliver(executor: Executor, chunk: ActionChunk, start: ArmStart, now: float) -> None:
        with contextlib.suppress(VlaError), np.errstate(all="ignore"):  # 1e300 squared overflows, as it should
            executor.receive(chunk, start, now)

    def _expert_chunk(self, state: RobotState, number: int) -> ActionChunk:
        contract, cell = self.contract, self.cell
        action, gripper = contract.action, contract.gripper
        (situation,) = observe_commands(cell, [cell.command_wanted])
        trajectory = plan_command(situation, action.horizon, action.period, gripper.max_opening, gripper.velocity)
        start = state.end_effector
        shares = np.arange(1, action.horizon + 1) * TURNING * action.period
        angle = max(float(np.linalg.norm(rotation_between(start.quaternion, trajectory.quaternions[0]))), 1e-9)
        turned = [
            slerp(start.quaternion, end, min(share / angle, 1.0))
            for end, share in zip(trajectory.quaternions, shares, strict=True)
        ]
        gentle = replace(trajectory, quaternions=np.array(turned))
        actions = encode(gentle, action, start, gripper.max_opening)
        return ActionChunk(
            actions,
            action.period,
            state.stamp,
            action.fingerprint,
            observation_sequence=number,
            instruction_sequence=1,
            policy="expert",
            sequence=number,
        )


def rotation_between(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the rotation vector (3,), rad, from one quaternion to another."""
    return rotation_vector_from_matrix(matrix_from_quaternion(second) @ matrix_from_quaternion(first).T)


def _look(executor: Executor) -> tuple[bool, bool]:
    """Return whether the executor follows its plan, and whether it changed the motion."""
    if isinstance(executor, SafetyExecutor):
        decision = executor.decisions[-1]
        running = decision.state in (SafetyState.RUN, SafetyState.SLOW)
        return running, running and decision.reason != "ok"
    return not (isinstance(executor, ClampExecutor) and executor.stopped), False


def spoil(seed: int, share: float = 1.0 / BAD_EVERY) -> Disturb:
    """Return a function that corrupts a fraction `share` of the chunks, by `seed` and the chunk's number alone."""

    def disturb(chunk: ActionChunk, number: int) -> ActionChunk:
        rng = np.random.default_rng([seed, number])
        if rng.random() >= share or number < 4:
            return chunk
        return _spoilt(chunk, rng)

    return disturb


def _spoilt(chunk: ActionChunk, rng: np.random.Generator) -> ActionChunk:
    actions = np.array(chunk.actions)
    kind = int(rng.integers(0, 6))
    if kind == 0:
        actions[int(rng.integers(0, 6)), int(rng.integers(0, 3))] = np.nan
    elif kind == 1:
        actions[:, :3] += rng.choice([-1.0, 1.0], 3) * 0.4  # sudden large offset
    elif kind == 2:
        actions[:, 2] = -0.6  # through the table
    elif kind == 3:
        actions[:, :3] *= np.where(np.arange(len(actions)) % 2, -6.0, 6.0)[:, None]  # chatter
    elif kind == 4:
        actions[int(rng.integers(0, 6)), int(rng.integers(0, 3))] = 1e300
    else:
        actions[:, 3:6] += rng.normal(0.0, 1.5, 3)
    return _raw(chunk, actions)


def _raw(chunk: ActionChunk, actions: FloatArray) -> ActionChunk:
    """Return a chunk with these actions, even ones that its type would reject: they arrive over a network."""
    spoilt = replace(chunk)
    object.__setattr__(spoilt, "actions", actions)
    return spoilt


def summarize(plays: Sequence[Play]) -> dict[str, object]:
    """Return the metrics of several scenes with one executor."""
    judgement = Judgement()
    for one in plays:
        judgement.add(one.judgement)
    ticks = max(sum(one.ticks for one in plays), 1)
    return {
        "scenes": len(plays),
        "success_rate": sum(one.success for one in plays) / max(len(plays), 1),
        "commands": judgement.commands,
        "violations": judgement.total,
        "by_kind": judgement.violations,
        "worst": judgement.worst,
        "bad_chunks": sum(one.bad_chunks for one in plays),
        "stops": sum(one.stops for one in plays),
        "false_stops": sum(one.false_stops for one in plays),
        "stopped_share": sum(one.stopped_ticks for one in plays) / ticks,
        "corrected_share": sum(one.corrected_ticks for one in plays) / ticks,
        "ticks": ticks,
        "reasons": dict(sum((one.reasons for one in plays), Counter())),
    }


def compare(
    contract: RobotContract,
    parameters: SafetyParameters,
    seeds: Sequence[int],
    progress: Callable[[], object] = lambda: None,
) -> dict[str, dict[str, object]]:
    """Run every scene with corrupted chunks and each approach, and replay one recording through all of them.

    Returns:
        For each approach: the closed-loop metrics, and under "replay" those of the same recorded commands, which come
        from the filter's own run.
    """
    scene = Scene(contract, parameters)
    plays: dict[str, list[Play]] = {name: [] for name in scene.executors()}
    replays: dict[str, list[Play]] = {name: [] for name in plays}
    for seed in seeds:
        recording: list[tuple[float, ActionChunk, ArmStart]] = []
        for name, executor in scene.executors().items():
            plays[name].append(scene.play(executor, seed, spoil(seed)))
            recording = recording or plays[name][-1].record
            replays[name].append(scene.play(executor, seed, recorded=recording))
            progress()
    scene.cell.close()
    return {name: {**summarize(plays[name]), "replay": summarize(replays[name])} for name in plays}


def clean_runs(
    contract: RobotContract,
    parameters: SafetyParameters,
    seeds: Sequence[int],
    progress: Callable[[], object] = lambda: None,
) -> dict[str, object]:
    """Run nominal scenes of the expert, with the safety layer and without.

    Returns:
        Success with and without the layer, false stops, and the fraction of ticks in which the motion was changed.
    """
    scene = Scene(contract, parameters)
    safe, bare = [], []
    for seed in seeds:
        safe.append(scene.play(SafetyExecutor(contract, parameters), seed))
        bare.append(scene.play(DirectExecutor(contract), seed))
        progress()
    scene.cell.close()
    figures = summarize(safe)
    return {
        **figures,
        "success_without": sum(one.success for one in bare) / max(len(bare), 1),
        "false_stop_share": figures["stopped_share"],
        "modified_share": figures["corrected_share"],
    }
