"""Carries out the chunks of a policy one after the other: a `Policy` around a policy.

    predict(observation) -> inference, then the new chunk is joined to the plan under way
    delivered(chunk, delay) -> it is the plan under way from now on, and its delay is measured

Row i of a chunk is meant for stamp + (i + 1) period, so a chunk that arrives late is entered where it is by then. What
is carried out until then stands already: those rows are frozen.
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

MOST_ON_THE_WAY = 16
"""Chunks that were predicted and not delivered: more are forgotten, the oldest first."""

MOST_PLANS = 32
"""Chunks that ensembling looks back on."""

LEAST_OVERLAP = 2
"""Rows over which an old chunk fades, where `ExecutionSettings.overlap` says nothing."""

AT_REST = 0.05
"""Fastest joint, rad/s, of an arm that rests."""

OVERLAPPING = (Mode.ASYNCHRONOUS, Mode.ENSEMBLING, Mode.REAL_TIME_CHUNKING)


@dataclass(frozen=True)
class Execution:
    """How chunks follow each other at present.

    Attributes:
        mode: Never `Mode.AUTO`.
        reason: Why it is this one.
        delay: Of the recent chunks.
        frozen: Rows of the newest chunk that were bound to the plan under way.
    """

    mode: Mode
    reason: str
    delay: Delay
    frozen: int = 0

    @property
    def sentence(self) -> str:
        """The same for people."""
        delay = self.delay
        if not delay.count:
            return f"{self.mode.value}: {self.reason}"
        taken = f"{1e3 * delay.median:.0f} ms a chunk, jitter {1e3 * delay.jitter:.0f} ms"
        return f"{self.mode.value}: {self.reason} ({taken})"


class _Made:
    """A chunk as it was made; it is decoded when the next one goes on from it, and not before."""

    def __init__(self, stamp: float, chunk: ActionChunk, state: RobotState) -> None:
        self.stamp, self._actions, self._period, self._state = stamp, chunk.actions, chunk.period, state
        self._plan: Plan | None = None

    def plan(self, space: ActionSpace, contract: RobotContract) -> Plan:
        """Return it decoded."""
        if self._plan is None:
            from vla_ros.policies.execution.plan import Plan

            starts = arm_starts(self._state, contract)
            self._plan = Plan.of_rows(self._actions, self.stamp, self._period, space, starts)
        return self._plan


class ChunkExecutor:
    """Implements the `Policy` protocol by a policy; one thread at a time calls it, `execution` may be read by any."""

    def __init__(self, policy: Policy, contract: RobotContract, settings: ExecutionSettings | None = None) -> None:
        """Carry out the chunks of `policy`, which follow the action space of `contract`, as `settings` say."""
        self.policy, self._contract = policy, contract
        self.settings = settings or ExecutionSettings()
        self._meter = DelayMeter()
        self._slow = False
        self._on_the_way: deque[_Made] = deque(maxlen=MOST_ON_THE_WAY)
        self._predicted: deque[_Made] = deque(maxlen=MOST_PLANS)
        self._carried_out: deque[tuple[float, _Made]] = deque(maxlen=MOST_ON_THE_WAY)  # from when, s, and what
        self._next_due = -math.inf
        self.execution = self._choose()

    @property
    def name(self) -> str:
        """Name of the policy."""
        return self.policy.name

    @property
    def specification(self) -> ActionSpace:
        """Convention of its chunks."""
        return self.policy.specification

    @property
    def device(self) -> str:
        """Where it computes."""
        return self.policy.device

    @property
    def image_sizes(self) -> Mapping[str, tuple[int, int]]:
        """Camera name to (height, width), px."""
        return self.policy.image_sizes

    def reset(self, instruction: Instruction) -> None:
        """Take a new instruction; no chunk of the one before is carried over. Raises what the policy raises."""
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
        """Put the policy away."""
        close_policy(self.policy)

    def describe(self) -> str:
        """Return how its chunks follow each other at present, for people."""
        return self.execution.sentence

    def is_due(self, stamp: float) -> bool:
        """Return whether an observation of `stamp`, s, shall be planned from, or `execute` rows come first."""
        return stamp >= self._next_due

    def predict(self, observation: Observation) -> ActionChunk:
        """Return the chunk to carry out; raises what the policy raises.

        Raises:
            ChunkError: when it does not follow the policy's own action space, or a rotation is degenerate.
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
        """Be told that a chunk is carried out from now on.

        Args:
            chunk: One of `predict`.
            delay: Time from its observation until now, s; one that makes no sense is forgotten with all the others,
                and nothing is carried over from this chunk.
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
        # Observations come at about the policy's rate: one that is half a row early is the one that is meant.
        self._next_due = chunk.observation_stamp + delay + (rows - 0.5) * chunk.period if rows and made else -math.inf

    def _choose(self) -> Execution:
        """Return the mode for the next chunk, by the settings or by what was measured."""
        delay, wanted = self._meter.delay, self.settings.mode
        if wanted is not Mode.AUTO:
            reason = "as it was asked for"
            if wanted is Mode.REAL_TIME_CHUNKING and not accepts_prefix(self.policy):
                reason += "; the policy accepts no prefix, so its rows are blended instead"
            return Execution(wanted, reason, delay)
        if not delay.measured:
            return Execution(Mode.SYNCHRONOUS, "the delay is not measured yet", delay)
        period = self.specification.period
        # Begins when most chunks are late, ends when none is: the mode does not change to and fro.
        self._slow = delay.longest > period if self._slow else delay.median > period
        if not self._slow:
            return Execution(Mode.SYNCHRONOUS, f"chunks come within a row of {1e3 * period:.0f} ms", delay)
        if accepts_prefix(self.policy):
            return Execution(Mode.REAL_TIME_CHUNKING, f"chunks take longer than a row of {1e3 * period:.0f} ms", delay)
        reason = f"chunks take longer than a row of {1e3 * period:.0f} ms, and the policy accepts no prefix"
        return Execution(Mode.ASYNCHRONOUS, reason, delay)

    def _rows_of(self, delay: Delay) -> int:
        """Return the rows that begin before a chunk arrives: they stand already."""
        return int(np.ceil(delay.longest / self.specification.period - 1e-6))

    def _alone(self, observation: Observation, execution: Execution) -> ActionChunk:
        """Return the policy's own chunk, cut where the arm shall wait for the next one."""
        chunk = self.policy.predict(observation)
        rows = self.settings.execute
        if not rows or not execution.delay.count:
            return chunk
        return replace(chunk, actions=chunk.actions[: self._rows_of(execution.delay) + rows])

    def _joined(self, observation: Observation, execution: Execution) -> tuple[ActionChunk, int]:
        """Return a chunk that goes on from the plan under way, and how many of its rows are frozen."""
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
        weights = fade(frozen, self.settings.overlap or max(frozen, LEAST_OVERLAP), count)
        rows = encoded(blended(before.seen_from(stamp, count), new, weights), space, starts)
        return replace(chunk, actions=rows), frozen

    def _from_rest(self, observation: Observation, chunk: ActionChunk, execution: Execution) -> ActionChunk:
        """Return a chunk for an arm that rests until it arrives: it stays while rows pass, then the chunk begins.

        Else the arm would have to jump to where it would be by then.
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
        """Return the policy's chunk, planned on from the plan under way where that is asked for and can be done."""
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
        """Return the plan under way, where the arm is about where it was asked to be; else a chunk starts afresh.

        An arm that is held, slowed down or pushed is not where the plan is: to go on from there would be a jump.
        """
        from vla_ros.policies.execution.plan import LOOK_BACK, LOOKS

        stamp, starts = observation.stamp, arm_starts(observation.state, self._contract)
        for time in np.linspace(stamp, stamp - LOOK_BACK, LOOKS):
            asked = self._asked_at(float(time))
            if asked is not None and asked.has_at(float(time), starts):
                return self._carried_out[-1][1].plan(self.specification, self._contract)
        return None

    def _asked_at(self, time: float) -> Plan | None:
        """Return the plan that was carried out at `time`, s; None before the first one."""
        made = next((one for since, one in reversed(self._carried_out) if since <= time), None)
        return None if made is None else made.plan(self.specification, self._contract)
