"""Assembles episode steps from the graph's messages, identically for the live robot and for a recording.

A step is an observation and the action that was commanded for it. The action comes from the newest chunk whose
observation is not newer than the step's: its row for the period that starts at the step's observation, re-expressed
relative to the state observed there. A step is decided once two more observations have arrived, so that a chunk may
arrive slightly before or after the observations around it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from vla_ros.actions.space import ActionSpace
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, decode_chunk, encode_chunk
from vla_ros.data.checking import MAX_GAP
from vla_ros.data.errors import ConventionError, DataError, RecordingGapError
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES, Step
from vla_ros.types import ActionChunk, FloatArray, Instruction, Observation, RobotState

PATIENCE = 2
"""Number of later observations required before a step is decided."""

REMEMBERED = 64
"""Observations, chunks and instructions kept, to look up a chunk's start state and its instruction."""


@dataclass
class AssemblyCounts:
    """Counts observations that became steps, and those without a valid action (before the first chunk, on HOLD)."""

    steps: int = 0
    without_action: int = 0


class EpisodeAssembler:
    """Builds the steps of one episode from values added in order of arrival."""

    def __init__(
        self, specification: ActionSpace, joint_names: tuple[str, ...], max_opening: float, episode: str, task: str
    ) -> None:
        """Start an episode.

        Args:
            specification: Action space of the chunks.
            joint_names: In the order of the observations.
            max_opening: Opening of the gripper that counts as fully open, m.
            episode: Name of the episode.
            task: Name of the task.
        """
        self._specification, self._convention = specification, replace(specification, horizon=1)
        self._max_opening, self._episode, self._task = max_opening, episode, task
        self._names = (*joint_names, *POSE_NAMES, GRIPPER_NAME)
        self._waiting: deque[Observation] = deque()
        self._seen: deque[Observation] = deque(maxlen=REMEMBERED)
        self._chunks: deque[ActionChunk] = deque(maxlen=REMEMBERED)
        self._instructions: deque[Instruction] = deque(maxlen=REMEMBERED)
        self._first = self._last = -np.inf
        self.counts = AssemblyCounts()

    def instruct(self, instruction: Instruction) -> None:
        """Add an instruction."""
        self._instructions.append(instruction)

    def act(self, chunk: ActionChunk) -> None:
        """Add a chunk.

        Raises:
            ConventionError: when its action space differs from the episode's.
        """
        if chunk.specification != self._specification.fingerprint:
            raise ConventionError(
                f"episode '{self._episode}': a chunk of '{chunk.policy}' follows the action specification "
                f"{chunk.specification}, the robot's is {self._specification.fingerprint}"
            )
        self._chunks.append(chunk)

    def observe(self, observation: Observation) -> list[Step]:
        """Add an observation and return the steps that can be decided now; late, older observations are ignored.

        Raises:
            RecordingGapError: when the gap since the previous step is too long.
            DataError: when a step holds invalid numbers.
        """
        if self._seen and observation.stamp <= self._seen[-1].stamp:
            return []
        images = {name: np.array(image) for name, image in observation.images.items()}
        self._waiting.append(replace(observation, images=images))  # copied: do not retain the message's memory
        self._seen.append(replace(observation, images={}))
        return self._decide() if len(self._waiting) > PATIENCE else []

    def finish(self) -> list[Step]:
        """Return the remaining steps at the end of the episode."""
        steps = []
        while self._waiting:
            steps += self._decide()
        return steps

    def _decide(self) -> list[Step]:
        observation = self._waiting.popleft()
        found = self._action(observation)
        if found is None:
            self.counts.without_action += 1
            return []
        action, sentence = found
        if self.counts.steps == 0:
            self._first = self._last = observation.stamp
        gap = observation.stamp - self._last
        if gap > MAX_GAP * self._convention.period:
            raise RecordingGapError(
                f"episode '{self._episode}': {gap:.2f} s without a step behind step {self.counts.steps - 1}, expected "
                f"at most {MAX_GAP * self._convention.period:.2f} s; a camera, the policy or the machine stalled"
            )
        self._last = observation.stamp
        state = observation.state
        pose = state.end_effector
        step = Step(
            images=observation.images,
            instruction=sentence,
            proprioception=np.concatenate(
                [state.joint_positions, pose.position, pose.quaternion, [state.gripper_opening]]
            ),
            action=action,
            convention=self._convention,
            task=self._task,
            episode=self._episode,
            index=self.counts.steps,
            timestamp=observation.stamp - self._first,
            last=False,
            success=None,
            proprioception_names=self._names,
        )
        self.counts.steps += 1
        return [step]

    def _action(self, observation: Observation) -> tuple[FloatArray, str] | None:
        """Return the action for an observation and its instruction, or None where nothing was commanded."""
        stamp, period = observation.stamp, self._specification.period
        earlier = [chunk for chunk in self._chunks if chunk.observation_stamp <= stamp]
        if not earlier:
            return None
        chunk = max(earlier, key=lambda one: (one.observation_stamp, one.sequence))
        row = round((stamp - chunk.observation_stamp) / period)
        start = next((one.state for one in self._seen if one.stamp == chunk.observation_stamp), None)
        sentence = next((i.text for i in self._instructions if i.sequence == chunk.instruction_sequence), None)
        if row >= chunk.horizon or start is None or sentence is None:
            return None
        if row == 0:
            return np.asarray(chunk.actions[0]), sentence
        arm = self._specification.only_motion.arm
        plan = decode_chunk(chunk.actions, self._specification, {arm: self._start(start)})[arm]
        values = (plan.joint_positions, plan.positions, plan.quaternions, plan.openings)
        wanted = ArmTrajectory(*(None if one is None else one[row : row + 1] for one in values))
        return encode_chunk({arm: wanted}, self._convention, {arm: self._start(observation.state)})[0], sentence

    def _start(self, state: RobotState) -> ArmStart:
        return ArmStart(state.joint_positions, state.end_effector, self._max_opening)


def ended(steps: list[Step], success: bool | None) -> list[Step]:
    """Return a complete episode's steps with its outcome set and the last step marked.

    Raises:
        DataError: when there are no steps.
    """
    if not steps:
        raise DataError("an episode has no step: nothing was commanded while it was recorded")
    return [replace(step, success=success, last=step is steps[-1]) for step in steps]
