"""Executes the chunks of a policy one after the other: a `Policy` that wraps a policy.

    predict(observation) -> inference, then the new chunk is joined to the current plan
    delivered(chunk, delay) -> the chunk becomes the current plan, and its delay is recorded

Row i of a chunk is meant for stamp + (i + 1) period, so a late chunk is entered at the row due at its arrival. The rows
executed until then are already fixed by the current plan: they are frozen.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ChunkError
from vla_ros.policies.conversion import arm_starts
from vla_ros.policies.execution.delay import Delay, DelayMeter
from vla_ros.policies.execution.settings import ExecutionSettings, Mode
from vla_ros.policies.protocol import Policy, Prefix, PrefixPolicy, accepts_prefix, close_policy
from vla_ros.robot.contract import RobotContract
from vla_ros.types import ActionChunk, Instruction, Observation, RobotState

if TYPE_CHECKING:
    from vla_ros.policies.execution.plan import Plan

MAX_UNDELIVERED = 16
"""Maximum number of predicted chunks not yet delivered; beyond it the oldest are dropped."""

MAX_PLANS = 32
"""Maximum number of chunks that ensembling averages."""

MIN_OVERLAP = 2
"""Minimum number of rows over which an old chunk fades out, unless `ExecutionSettings.overlap` is set."""

AT_REST = 0.05
"""Maximum joint velocity of an arm at rest, rad/s."""

OVERLAPPING = (Mode.ASYNCHRONOUS, Mode.ENSEMBLING, Mode.REAL_TIME_CHUNKING)


@dataclass(frozen=True)
class Execution:
    """Current execution of chunks.

    Attributes:
        mode: Execution mode, never `Mode.AUTO`.
        reason: Why this mode was chosen.
        delay: Delays of the recent chunks.
        frozen: Number of rows of the newest chunk that were fixed by the current plan.
    """

    mode: Mode
    reason: str
    delay: Delay
    frozen: int = 0

    @property
    def sentence(self) -> str:
        """Human-readable summary."""
        delay = self.delay
        if not delay.count:
            return f"{self.mode.value}: {self.reason}"
        taken = f"{1e3 * delay.median:.0f} ms a chunk, jitter {1e3 * delay.jitter:.0f} ms"
        return f"{self.mode.value}: {self.reason} ({taken})"


class _Made:
    """A predicted chunk; decoded only when the next one continues from it."""

    def __init__(self, stamp: float, chunk: ActionChunk, state: RobotState) -> None:
        self.stamp, self._actions, self._period, self._state = stamp, chunk.actions, chunk.period, state
        self._plan: Plan | None = None

    def plan(self, space: ActionSpace, contract: RobotContract) -> Plan:
        """Return the decoded chunk."""
        if self._plan is None:
            from vla_ros.policies.execution.plan import Plan

            starts = arm_starts(self._state, contract)
            self._plan = Plan.of_rows(self._actions, self.stamp, self._period, space, starts)
        return self._plan


class ChunkExecutor:
    """Implements the `Policy` protocol around a policy; not thread-safe, except for reading `execution`."""

    def __init__(self, policy: Policy, contract: RobotContract, settings: ExecutionSettings | None = None) -> None:
        """Execute the chunks of `policy`, which are in the action space of `contract`, according to `settings`."""
        self.policy, self._contract = policy, contract
        self.settings = settings or ExecutionSettings()
        self._meter = DelayMeter()
        self._slow = False
        self._on_the_way: deque[_Made] = deque(maxlen=MAX_UNDELIVERED)
        self._predicted: deque[_Made] = deque(maxlen=MAX_PLANS)
        self._carried_out: deque[tuple[float, _Made]] = deque(maxlen=MAX_UNDELIVERED)  # (start of execution, s, chunk)
        self._next_due = -math.inf
        self.execution = self._choose()

    @property
    def name(self) -> str:
        """Name of the policy."""
        return self.policy.name

    @property
    def specification(self) -> ActionSpace:
        """Action space of its chunks."""
        return self.policy.specification

    @property
    def device(self) -> str:
        """Device of the policy."""
        return self.policy.device

    @property
    def image_sizes(self) -> Mapping[str, tuple[int, int]]:
        """Camera name to (height, width), px."""
        return self.policy.image_sizes

    def reset(self, instruction: Instruction) -> None:
        """Start a new instruction, without chunks of the previous one; raises what the policy raises."""
        for kept in (self._on_the_way, self._predicted, self._carried_out):
            kept.clear()
        self._next_due = -math.inf
        self.policy.reset(instruction)

    def forget_delays(self) -> None:
        """Discard the measured delays, so that an episode does not depend on those played before it."""
        self._meter.forget()
        self._slow = False
        self.execution = self._choose()

    def close(self) -> None:
        """Close the policy."""
        close_policy(self.policy)

    def describe(self) -> str:
        """Return a human-readable summary of the current execution."""
        return self.execution.sentence

    def is_due(self, stamp: float) -> bool:
        """Return whether to plan from an observation of `stamp`, s; False while `execute` rows are still to come."""
        return stamp >= self._next_due

    def predict(self, observation: Observation) -> ActionChunk:
        """Return the chunk to execute; raises what the policy raises.

        Raises:
            ChunkError: when it does not match the policy's own action space, or a rotation is degenerate.
        """
        execution = self._choose()
        frozen = 0
        if execution.mode in OVERLAPPING:
            chunk, frozen = self._joined(observation, execution)
        else:
            chunk = self._alone(observation, execution)
        self._on_the_way.append(_Made(observation.stamp, chunk, observation.state))
        self.execution = replace(execution, frozen=frozen)
        return replace(chunk, observation_stamp=observation.stamp)

    def delivered(self, chunk: ActionChunk, delay: float) -> None:
        """Record that a chunk is executed from now on.

        Args:
            chunk: A chunk returned by `predict`.
            delay: Time from its observation until now, s; after an invalid one all delays are discarded, and the next
                chunk does not continue from this one.
        """
        made = next((one for one in reversed(self._on_the_way) if one.stamp == chunk.observation_stamp), None)
        try:
            self._meter.record(delay)
        except ChunkError:
            self._meter.forget()
            made = None
        if made is None:
            self._carried_out.clear()
        else:
            self._carried_out.append((made.stamp + delay, made))
            while self._on_the_way and self._on_the_way[0].stamp <= made.stamp:
                self._on_the_way.popleft()
        rows = self.settings.execute
        # Observations arrive at about the policy's rate: one up to half a row early is the intended one.
        self._next_due = chunk.observation_stamp + delay + (rows - 0.5) * chunk.period if rows and made else -math.inf

    def _choose(self) -> Execution:
        """Return the execution of the next chunk, from the settings or from the measured delays."""
        delay, wanted = self._meter.delay, self.settings.mode
        if wanted is not Mode.AUTO:
            reason = "as it was asked for"
            if wanted is Mode.REAL_TIME_CHUNKING and not accepts_prefix(self.policy):
                reason += "; the policy accepts no prefix, so its rows are blended instead"
            return Execution(wanted, reason, delay)
        if not delay.measured:
            return Execution(Mode.SYNCHRONOUS, "the delay is not measured yet", delay)
        period = self.specification.period
        # Hysteresis: starts when most chunks are late, ends when none is.
        self._slow = delay.longest > period if self._slow else delay.median > period
        if not self._slow:
            return Execution(Mode.SYNCHRONOUS, f"chunks come within a row of {1e3 * period:.0f} ms", delay)
        if accepts_prefix(self.policy):
            return Execution(Mode.REAL_TIME_CHUNKING, f"chunks take longer than a row of {1e3 * period:.0f} ms", delay)
        reason = f"chunks take longer than a row of {1e3 * period:.0f} ms, and the policy accepts no prefix"
        return Execution(Mode.ASYNCHRONOUS, reason, delay)

    def _rows_of(self, delay: Delay) -> int:
        """Return the number of rows that begin before a chunk arrives, and are therefore fixed."""
        return int(np.ceil(delay.longest / self.specification.period - 1e-6))

    def _alone(self, observation: Observation, execution: Execution) -> ActionChunk:
        """Return the policy's own chunk, truncated where the arm shall wait for the next one."""
        chunk = self.policy.predict(observation)
        rows = self.settings.execute
        if not rows or not execution.delay.count:
            return chunk
        return replace(chunk, actions=chunk.actions[: self._rows_of(execution.delay) + rows])

    def _joined(self, observation: Observation, execution: Execution) -> tuple[ActionChunk, int]:
        """Return a chunk that continues the current plan, and its number of frozen rows."""
        from vla_ros.policies.execution.plan import averaged, blended, encoded, fade

        starts = arm_starts(observation.state, self._contract)
        before = self._going_on(observation)
        left = 0 if before is None else min(before.rows_left(observation.stamp), self.specification.horizon)
        frozen = min(self._rows_of(execution.delay), left)
        chunk = self._planned(observation, execution, before, frozen, left)
        if before is None:
            self._predicted.clear()
        self._predicted.append(_Made(observation.stamp, chunk, observation.state))
        if before is None or left == 0:
            return self._from_rest(observation, chunk, execution), 0
        space, stamp = self.specification, observation.stamp
        if execution.mode is Mode.ENSEMBLING:
            plans = [one.plan(space, self._contract) for one in self._predicted if one.stamp <= stamp]
            new = averaged(plans, stamp, chunk.horizon, self.settings.decay)
        else:
            new = self._predicted[-1].plan(space, self._contract).trajectories
        count = min(left, chunk.horizon)
        weights = fade(frozen, self.settings.overlap or max(frozen, MIN_OVERLAP), count)
        rows = encoded(blended(before.seen_from(stamp, count), new, weights), space, starts)
        return replace(chunk, actions=rows), frozen

    def _from_rest(self, observation: Observation, chunk: ActionChunk, execution: Execution) -> ActionChunk:
        """Return a chunk for an arm at rest: it stays until the chunk arrives, and only then starts the motion.

        Otherwise the arm would have to jump to the row due at the chunk's arrival.
        """
        rows = min(self._rows_of(execution.delay), self.specification.horizon - 1)
        if rows < 1 or not float(np.abs(observation.state.joint_velocities).max()) <= AT_REST:
            return chunk
        from vla_ros.policies.execution.plan import encoded

        space, count = self.specification, min(chunk.horizon + rows, self.specification.horizon)
        plan = _Made(observation.stamp, chunk, observation.state).plan(space, self._contract)
        later = plan.seen_from(observation.stamp - rows * chunk.period, count)
        return replace(chunk, actions=encoded(later, space, arm_starts(observation.state, self._contract)))

    def _planned(
        self, observation: Observation, execution: Execution, before: Plan | None, frozen: int, left: int
    ) -> ActionChunk:
        """Return the policy's chunk, guided by the current plan if the mode requires it and the policy supports it."""
        policy = self.policy
        guided = execution.mode is Mode.REAL_TIME_CHUNKING and before is not None and left > 0
        if not (guided and before is not None and isinstance(policy, PrefixPolicy) and policy.accepts_prefix):
            return policy.predict(observation)
        from vla_ros.policies.execution.plan import encoded, soft_mask

        space = self.specification
        known = before.seen_from(observation.stamp, left)
        rows = encoded(known, space, arm_starts(observation.state, self._contract))
        return policy.predict_from(observation, Prefix(rows, soft_mask(frozen, left, space.horizon)))

    def _going_on(self, observation: Observation) -> Plan | None:
        """Return the current plan if the arm is close to it; else None: the next chunk does not continue it.

        An arm that is held, slowed down or pushed is away from the plan: continuing it would be a jump.
        """
        from vla_ros.policies.execution.plan import LOOK_BACK, LOOKS

        stamp, starts = observation.stamp, arm_starts(observation.state, self._contract)
        for time in np.linspace(stamp, stamp - LOOK_BACK, LOOKS):
            asked = self._asked_at(float(time))
            if asked is not None and asked.has_at(float(time), starts):
                return self._carried_out[-1][1].plan(self.specification, self._contract)
        return None

    def _asked_at(self, time: float) -> Plan | None:
        """Return the plan executed at `time`, s; None before the first one."""
        made = next((one for since, one in reversed(self._carried_out) if since <= time), None)
        return None if made is None else made.plan(self.specification, self._contract)
