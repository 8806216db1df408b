"""Runs a policy in its own thread: the newest observation wins, nothing queues, no exception escapes.

offer(observation) ->  slot of one  ->  predict  ->  check  ->  publish(chunk)
instruct(...)      ->  reset before the next predict; a chunk in progress for the old instruction is dropped
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from vla_ros.errors import ChunkError, InstructionError, LinkError, VlaError
from vla_ros.policies.protocol import Policy, describe_execution, is_due, tell_delivered
from vla_ros.types import ActionChunk, Instruction, InstructionKind, Observation

LATENCY_WINDOW = 512
"""Number of recent inferences in the latency statistics."""


class WorkerState(IntEnum):
    """States of a policy; the values are those of PolicyStatus.msg."""

    IDLE = 0
    RUNNING = 1
    WAITING = 2
    FAULT = 3


@dataclass(frozen=True)
class WorkerStatus:
    """Snapshot of the worker.

    Attributes:
        state: State of the worker.
        sentence: Human-readable state.
        instruction_sequence: Sequence number of the newest instruction; 0 before the first one.
        inferences: Number of finished inferences, including dropped or rejected ones. A hung policy cannot fake it.
        dropped_observations: Number of observations replaced by a newer one before use, during a task.
        inference_ms: Duration of the latest inference, ms.
        inference_ms_p50: Median duration of recent inferences, ms.
        inference_ms_p99: 99th percentile of their durations, ms.
        trust: Confidence of the latest chunk, 0 to 1.
        computing: Elapsed time of the current inference, s; 0 between inferences.
    """

    state: WorkerState
    sentence: str
    instruction_sequence: int = 0
    inferences: int = 0
    dropped_observations: int = 0
    inference_ms: float = 0.0
    inference_ms_p50: float = 0.0
    inference_ms_p99: float = 0.0
    trust: float = 0.0
    computing: float = 0.0


class InferenceWorker:
    """A policy, its thread and their status. `offer`, `instruct` and `status` never wait for the policy."""

    def __init__(
        self,
        policy: Policy,
        publish: Callable[[ActionChunk], None],
        finished: Callable[[], None] = lambda: None,
        *,
        stale_after: float = 0.5,
        hung_after: float = 2.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Start the thread.

        Args:
            policy: Called only by the thread from now on.
            publish: Called with each valid chunk in the worker's thread; must not block for long.
            finished: Called in the worker's thread after every inference, successful or not.
            stale_after: Time without an observation after which the state is WAITING, s.
            hung_after: Duration beyond which an unfinished inference is reported as FAULT, s.
            clock: Clock of the observations' stamps, s, from which a chunk's delay is measured. Without it, the delay
                is measured from when the observation was offered.
        """
        self.policy = policy
        self._publish, self._finished = publish, finished
        self._stale_after, self._hung_after, self._clock = stale_after, hung_after, clock
        self._change = threading.Condition()
        self._closed = False
        self._instruction: Instruction | None = None
        self._must_reset = False
        self._fault = self._complaint = ""
        self._lost = ""
        self._refused = False
        self._observation: Observation | None = None
        self._observed_at = -np.inf
        self._started_at: float | None = None
        self._inferences = self._dropped = self._chunks = 0
        self._latencies: deque[float] = deque(maxlen=LATENCY_WINDOW)
        self._latency_of, self._latency = 0, (0.0, 0.0, 0.0)
        self._trust = 0.0
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def instruct(self, instruction: Instruction) -> None:
        """Set the instruction and drop all work for the previous one; a STOP leaves nothing to do."""
        with self._change:
            if instruction == self._instruction:
                return
            self._instruction = instruction
            if time.monotonic() - self._observed_at > self._stale_after:
                self._observation = None  # outdated: a new plan must start from a current observation
            self._must_reset = True
            self._fault = self._complaint = self._lost = ""
            self._refused, self._trust = False, 0.0
            self._change.notify_all()

    def offer(self, observation: Observation) -> None:
        """Store the newest observation; an unused one is dropped and counted."""
        with self._change:
            self._observed_at = time.monotonic()
            if not (self._must_reset or is_due(self.policy, observation.stamp)):
                return  # rows of the current chunk are executed first
            if self._observation is not None and self._has_task():
                self._dropped += 1
            self._observation = observation
            self._change.notify_all()

    def complain(self, sentence: str) -> None:
        """Report a fault for an observation that could not be offered, until a valid chunk from a newer one."""
        with self._change:
            if self._has_task():
                self._fault = self._complaint = sentence

    def status(self) -> WorkerStatus:
        """Return the worker's status."""
        with self._change:
            now = time.monotonic()
            state, sentence = self._describe(now)
            newest, p50, p99 = self._latency_figures()
            return WorkerStatus(
                state=state,
                sentence=sentence,
                instruction_sequence=self._instruction.sequence if self._instruction else 0,
                inferences=self._inferences,
                dropped_observations=self._dropped,
                inference_ms=newest,
                inference_ms_p50=p50,
                inference_ms_p99=p99,
                trust=self._trust,
                computing=0.0 if self._started_at is None else max(now - self._started_at, 1e-9),
            )

    def _latency_figures(self) -> tuple[float, float, float]:
        """Return the newest latency, the median and the 99th percentile, ms; cached, as heartbeats read them often."""
        if self._latency_of != self._inferences:
            recent = np.asarray(self._latencies) if self._latencies else np.zeros(1)
            p50, p99 = np.percentile(recent, [50.0, 99.0])
            self._latency_of, self._latency = self._inferences, (float(recent[-1]), float(p50), float(p99))
        return self._latency

    def close(self, timeout: float = 5.0) -> bool:
        """End the thread; return False when the policy did not return within `timeout` s (its thread is abandoned)."""
        with self._change:
            self._closed = True
            self._instruction = None
            self._change.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _has_task(self) -> bool:
        return self._instruction is not None and self._instruction.kind is InstructionKind.TASK and not self._refused

    def _describe(self, now: float) -> tuple[WorkerState, str]:
        running_for = 0.0 if self._started_at is None else now - self._started_at
        if running_for > self._hung_after:
            return WorkerState.FAULT, f"the policy has been computing one chunk for {running_for:.1f} s"
        if self._fault:
            return WorkerState.FAULT, self._fault
        if self._instruction is None:
            return WorkerState.IDLE, "loaded, waiting for an instruction"
        if self._instruction.kind is InstructionKind.STOP:
            return WorkerState.IDLE, f"stopped by '{self._instruction.text}'"
        if self._lost:
            return WorkerState.WAITING, self._lost
        if self._started_at is None and now - self._observed_at > self._stale_after:
            return WorkerState.WAITING, f"no observation for more than {self._stale_after} s"
        how = describe_execution(self.policy)
        return WorkerState.RUNNING, f"works on '{self._instruction.text}'" + (f"; {how}" if how else "")

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or (self._has_task() and self._observation is not None))
                if self._closed:
                    return
                observation, self._observation, offered = self._observation, None, self._observed_at
                instruction, must_reset = self._instruction, self._must_reset
                self._must_reset, self._complaint = False, ""
                self._started_at = time.monotonic()
            if observation is None or instruction is None:  # excluded by wait_for: only for the type checker
                continue
            self._work(observation, instruction, must_reset, offered)
            self._finished()

    def _work(self, observation: Observation, instruction: Instruction, must_reset: bool, offered: float) -> None:
        """Run one inference from start to publication; no exception of the policy escapes."""
        chunk: ActionChunk | None = None
        fault, lost, refused = "", "", False
        try:
            if must_reset:
                self.policy.reset(instruction)
            chunk = self._checked(self.policy.predict(replace(observation, instruction=instruction)))
        except InstructionError as error:
            fault, refused = str(error), True
        except LinkError as error:  # the task itself is fine: the arm holds, and continues when the link is back
            lost = str(error)
        except VlaError as error:
            fault = str(error)
        except Exception as error:  # a policy is third-party code: no exception of it may end the process
            fault = f"the policy raised {type(error).__name__}: {error}"
        with self._change:
            if self._started_at is not None:
                self._latencies.append(1e3 * (time.monotonic() - self._started_at))
            self._started_at = None
            self._inferences += 1
            if instruction is not self._instruction:
                # The instruction was replaced meanwhile: chunk and fault are discarded, the observation is still valid.
                self._observation = self._observation or observation
                return
            # A fault raised during inference is newer than this observation, and not cleared by its chunk.
            self._fault, self._lost, self._refused = fault or self._complaint, lost, refused
            self._must_reset = self._must_reset or bool(fault or lost)  # after a fault the policy's state is unknown
            if chunk is None:
                self._trust = 0.0
                return
            self._chunks += 1
            self._trust = chunk.trust
            self._hand_over(chunk, observation, instruction, offered)

    def _hand_over(
        self, chunk: ActionChunk, observation: Observation, instruction: Instruction, offered: float
    ) -> None:
        """Publish under the lock: after `instruct` has returned, no chunk of an older instruction follows."""
        chunk = replace(
            chunk,
            observation_stamp=observation.stamp,
            observation_sequence=observation.sequence,
            instruction_sequence=instruction.sequence,
            policy=self.policy.name[:64],
            sequence=self._chunks,
        )
        try:
            self._publish(chunk)
            taken = time.monotonic() - offered if self._clock is None else self._clock() - observation.stamp
            tell_delivered(self.policy, chunk, max(taken, 0.0))  # stamps may be slightly ahead of this clock
        except Exception as error:  # `publish` and the policy are third-party code, too
            self._fault = f"the chunk could not be handed on: {type(error).__name__}: {error}"

    def _checked(self, chunk: ActionChunk) -> ActionChunk:
        """Return the chunk if it matches the policy's own action space; its numbers are finite by construction."""
        specification = self.policy.specification
        if chunk.specification != specification.fingerprint:
            raise ChunkError(
                f"the chunk follows specification '{chunk.specification}', expected '{specification.fingerprint}'"
            )
        if chunk.width != specification.width or chunk.horizon > specification.horizon:
            raise ChunkError(
                f"the chunk is {chunk.horizon} x {chunk.width}, expected at most {specification.horizon} rows "
                f"of {specification.width} columns"
            )
        return chunk
