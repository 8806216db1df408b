"""Measures how smoothly a slow policy's chunks join: pauses, velocity steps at the seams, success.

A policy runs in lockstep with the simulator. Each of its chunks arrives a random, seeded delay after its observation;
the next observation is taken once the previous one has been answered, as with a single accelerator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from vla_ros.actions.trajectory import ArmStart
from vla_ros.envs.collector import CONTROL_PERIOD
from vla_ros.envs.env import Env
from vla_ros.envs.registry import find_world, make_env
from vla_ros.evaluation.executors import SafetyExecutor, arm_start
from vla_ros.evaluation.rollout import POLICY_LATENCY
from vla_ros.policies.build import load_executor
from vla_ros.policies.conversion import arm_starts
from vla_ros.policies.execution.executor import ChunkExecutor
from vla_ros.policies.execution.plan import Plan
from vla_ros.policies.execution.settings import ExecutionSettings, Mode
from vla_ros.policies.protocol import accepts_prefix
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.safety.parameters import load_parameters
from vla_ros.types import ActionChunk, FloatArray, Instruction, Observation, RobotState, SafetyState

WAITS, NEWEST = "synchronous", "newest"

WAYS = (WAITS, NEWEST, "asynchronous", "ensembling", "real_time_chunking")
"""Execution modes: `synchronous` executes half a chunk and waits for the next, `newest` replaces each chunk by the next
one unchanged, and the others are those of `Mode`."""


@dataclass(frozen=True)
class LoopOptions:
    """Settings of the measurement.

    Attributes:
        robot: Name or file of the contract.
        policy: Name of the policy.
        device: Device of the policy.
        ways: Execution modes, from `WAYS`.
        slower: Delays added to the graph's usual one, s; one measurement each.
        jitter: Half the range of the uniform part of each delay, s.
        scenes: Number of scenes per measurement.
        seed: Seed of the first scene and of the delays.
        world: Name of the simulated world.
    """

    robot: str
    policy: str
    device: str = "cpu"
    ways: tuple[str, ...] = WAYS
    slower: tuple[float, ...] = (0.1, 0.3, 0.5)
    jitter: float = 0.05
    scenes: int = 10
    seed: int = 1000
    world: str = "pick"


@dataclass
class Seams:
    """Velocity steps and pauses between consecutive plans.

    Attributes:
        period: Time between rows, s.
        limit: Limit of a velocity step between rows: (1,) m/s of the tool, or (n,) rad/s of the joints.
        steps: Velocity step at each seam, as a fraction of `limit`.
        pauses: Times without a row to execute, after the first plan, s.
    """

    period: float
    limit: FloatArray
    steps: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    _plan: Plan | None = None

    def take(self, plan: Plan, now: float) -> None:
        """Record that a plan takes over at `now`, s."""
        old = self._plan
        if old is not None:
            self.pauses.append(max(now - old.end, 0.0))
            here = self._value(old, now)
            came = (here - self._value(old, now - self.period)) / self.period
            goes = (self._value(plan, now + self.period) - here) / self.period
            self.steps.append(_size(goes - came, self.limit))
        self._plan = plan

    def end(self, now: float) -> None:
        """End the recording at `now`, s."""
        if self._plan is not None:
            self.pauses.append(max(now - self._plan.end, 0.0))

    def _value(self, plan: Plan, time: float) -> FloatArray:
        """Return the planned values at a time: tool positions (3,) m or joints (n,) rad, of all arms."""
        rows = plan.seen_from(time - plan.period, 1)
        values = [one.joint_positions if one.positions is None else one.positions for one in rows.values()]
        return np.concatenate([value[0] for value in values if value is not None])


def _size(step: FloatArray, limit: FloatArray) -> float:
    """Return a velocity step as a fraction of its limit: (1,) for the tool's norm, else (n,) per joint."""
    return float(np.linalg.norm(step) / limit[0] if limit.shape == (1,) else np.max(np.abs(step) / limit))


def seams_of(contract: RobotContract) -> Seams:
    """Return an empty record; the limit of a velocity step is the acceleration limit times one row's period."""
    period = contract.action.period
    if contract.commands_joints:
        return Seams(period, contract.joints.acceleration * period)
    return Seams(period, np.array([contract.cartesian.linear_acceleration * period]))


@dataclass(frozen=True)
class LoopRow:
    """Metrics of one execution mode with one delay.

    Attributes:
        way: Execution mode, from `WAYS`.
        slower_ms: Added delay of the policy, ms.
        delay_ms: Median measured delay from observation to arm, ms.
        jitter_ms: Longest minus shortest measured delay, ms.
        episodes: Number of episodes.
        successes: Number of successful episodes.
        seams: Number of chunks that replaced another.
        seams_over: Number of velocity steps above their limit.
        step_p50: Median velocity step, as a fraction of the limit.
        step_p95: 95th percentile.
        step_max: Largest one.
        pauses_over: Number of pauses longer than one period.
        longest_pause_ms: Longest pause, ms.
        held_fraction: Fraction of the ticks after the first chunk in which the safety layer held the arm.
        refused: Number of chunks rejected by the safety layer.
        seconds: Simulation time, s.
    """

    way: str
    slower_ms: float
    delay_ms: float
    jitter_ms: float
    episodes: int
    successes: int
    seams: int
    seams_over: int
    step_p50: float
    step_p95: float
    step_max: float
    pauses_over: int
    longest_pause_ms: float
    held_fraction: float
    refused: int
    seconds: float


class LoopPlayer:
    """Plays episodes with one inference in flight at a time."""

    def __init__(self, env: Env, executor: ChunkExecutor, safety: SafetyExecutor, contract: RobotContract) -> None:
        """Play in `env`; `executor` plans and `safety` executes the chunks."""
        self._env, self._executor, self._safety, self._contract = env, executor, safety, contract

    def forget_delays(self) -> None:
        """Discard measured delays; they are kept from scene to scene, as in a running graph."""
        self._executor.forget_delays()

    def play(self, seed: int, delays: Iterator[float], max_seconds: float) -> Episode:
        """Play a scene to success or to `max_seconds`; each inference takes the next of `delays`, s."""
        env, executor = self._env, self._executor
        instruction = Instruction(env.reset(seed), sequence=1)
        executor.reset(instruction)
        self._safety.start(env, instruction)
        episode = Episode(seams_of(self._contract))
        under_way: _Travelling | None = None
        due, first_tick = env.time, len(self._safety.decisions)
        while env.time < max_seconds and not env.success():
            state = env.state()
            if under_way is not None and under_way.arrives <= state.stamp + 1e-9:
                self._arrive(under_way, state.stamp, episode)
                under_way = None
            if state.stamp >= due - 1e-9:  # a camera image is available
                due += executor.specification.period
                if under_way is None and executor.is_due(state.stamp):
                    under_way = self._plan(instruction, episode, state, next(delays))
            self._safety.control(env, state, state.stamp)
            env.step(CONTROL_PERIOD)
        episode.seams.end(env.time)
        held = [one.state is SafetyState.HOLD for one in self._safety.decisions[first_tick:]]
        first_moving = held.index(False) if False in held else len(held)
        episode.ticks, episode.held = len(held) - first_moving, sum(held[first_moving:])
        episode.refused = len(self._safety.refused)
        episode.success, episode.seconds = env.success(), env.time
        return episode

    def _plan(self, instruction: Instruction, episode: Episode, state: RobotState, delay: float) -> _Travelling:
        episode.inferences += 1
        seen = replace(self._env.observe(), instruction=instruction, sequence=episode.inferences)
        start = arm_start(state, self._contract)
        return _Travelling(state.stamp + delay, self._executor.predict(seen), seen, start)

    def _arrive(self, one: _Travelling, now: float, episode: Episode) -> None:
        delay = now - one.chunk.observation_stamp
        self._safety.receive(one.chunk, one.start, now)
        self._executor.delivered(one.chunk, delay)
        episode.delays.append(delay)
        starts, space = arm_starts(one.seen.state, self._contract), self._executor.specification
        episode.seams.take(Plan.of_rows(one.chunk.actions, one.seen.stamp, one.chunk.period, space, starts), now)


@dataclass
class Episode:
    """Outcome of one scene."""

    seams: Seams
    delays: list[float] = field(default_factory=list)
    inferences: int = 0
    ticks: int = 0
    held: int = 0
    refused: int = 0
    success: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class _Travelling:
    """A chunk in transit; it arrives at `arrives`, s."""

    arrives: float
    chunk: ActionChunk
    seen: Observation
    start: ArmStart


def delays_of(slower: float, jitter: float, seed: int) -> Iterator[float]:
    """Yield delays, s: the graph's usual one plus `slower`, with uniform noise of +-`jitter`, never below 0."""
    rng = np.random.default_rng([seed, 17])
    while True:
        yield max(POLICY_LATENCY + slower + jitter * float(rng.uniform(-1.0, 1.0)), 0.0)


def settings_of(way: str, horizon: int) -> ExecutionSettings:
    """Return the execution settings of one of `WAYS` for chunks of `horizon` rows."""
    if way == WAITS:
        return ExecutionSettings(Mode.SYNCHRONOUS, execute=max(horizon // 2, 1))
    return ExecutionSettings(Mode.SYNCHRONOUS if way == NEWEST else Mode(way))


def measure_loop(options: LoopOptions) -> Iterator[LoopRow]:
    """Yield the metrics of each execution mode with each delay.

    `real_time_chunking` is omitted for a policy that accepts no prefix: it would equal `asynchronous`.

    Raises:
        CheckpointError: when the policy cannot be loaded, or does not fit the robot.
        VlaError: when the robot is unknown or its workcell cannot be built.
    """
    contract = load_contract(options.robot)
    loaded = load_executor(options.policy, contract, options.device)
    env, safety = make_env(options.world, contract), SafetyExecutor(contract, load_parameters())
    try:
        for way in options.ways:
            if way == Mode.REAL_TIME_CHUNKING.value and not accepts_prefix(loaded.policy):
                continue
            executor = ChunkExecutor(loaded.policy, contract, settings_of(way, contract.action.horizon))
            player = LoopPlayer(env, executor, safety, contract)
            for slower in options.slower:
                yield _measured(player, way, slower, options)
    finally:
        env.close()
        loaded.close()


def _measured(player: LoopPlayer, way: str, slower: float, options: LoopOptions) -> LoopRow:
    longest = find_world(options.world).max_seconds
    seeds = range(options.seed, options.seed + options.scenes)
    player.forget_delays()
    episodes = [player.play(seed, delays_of(slower, options.jitter, seed), longest) for seed in seeds]
    return summarise_loop(way, slower, episodes)


def summarise_loop(way: str, slower: float, episodes: Sequence[Episode]) -> LoopRow:
    """Return the metrics of episodes played in one execution mode."""
    period = episodes[0].seams.period
    steps = np.array([step for one in episodes for step in one.seams.steps] or [0.0])
    pauses = np.array([pause for one in episodes for pause in one.seams.pauses] or [0.0])
    delays = np.array([delay for one in episodes for delay in one.delays] or [0.0])
    return LoopRow(
        way=way,
        slower_ms=round(1e3 * slower, 1),
        delay_ms=round(1e3 * float(np.median(delays)), 1),
        jitter_ms=round(1e3 * float(np.ptp(delays)), 1),
        episodes=len(episodes),
        successes=sum(one.success for one in episodes),
        seams=sum(len(one.seams.steps) for one in episodes),
        seams_over=int((~(steps <= 1.0)).sum()),
        step_p50=round(float(np.median(steps)), 3),
        step_p95=round(float(np.percentile(steps, 95.0)), 3),
        step_max=round(float(steps.max()), 3),
        pauses_over=int((pauses > period).sum()),
        longest_pause_ms=round(1e3 * float(pauses.max()), 1),
        held_fraction=round(sum(one.held for one in episodes) / max(sum(one.ticks for one in episodes), 1), 4),
        refused=sum(one.refused for one in episodes),
        seconds=round(sum(one.seconds for one in episodes), 2),
    )


def loop_report(options: LoopOptions, rows: Sequence[LoopRow]) -> Mapping[str, Any]:
    """Return options and results as plain values."""
    left_out = [way for way in options.ways if way not in {row.way for row in rows}]
    return {**asdict(options), "left_out": left_out, "rows": [asdict(row) for row in rows]}
