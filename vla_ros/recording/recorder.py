"""Record episodes of the running graph, as MCAP and as steps of a LeRobot dataset.

    executor's thread    serialized messages  ->  bounded queue
    worker thread        queue  ->  file, and steps  ->  dataset

The executor never waits for the disk: if the queue is full, the episode is refused for that reason.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rclpy.node import Node
from rclpy.serialization import deserialize_message

from vla_ros.data.errors import DataError
from vla_ros.data.lerobot.episode import EpisodeInProgress
from vla_ros.data.lerobot.writer import LeRobotWriter
from vla_ros.data.step import Step
from vla_ros.errors import VlaError
from vla_ros.recording.bag import STEP_TOPICS, TOPICS, BagWriter, feed, new_assembler
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.qos import qos

WAITING = 2048
"""Maximum number of messages queued for the worker: 10 s of all topics."""

END_PATIENCE = 60.0
"""Maximum time for the worker to write the rest, s."""


@dataclass(frozen=True)
class RecordedEpisode:
    """Result of an episode: its name, steps, and number of observations without a command."""

    name: str
    steps: int
    without_action: int
    success: bool | None
    bag: Path | None


class Recorder:
    """Records one episode at a time, from `begin` to `commit` or `drop`; another thread spins the node.

    Attributes:
        received: Maps each topic to its number of received messages.
    """

    def __init__(
        self,
        node: Node,
        contract: RobotContract,
        *,
        bags: Path | None = None,
        dataset: LeRobotWriter | None = None,
        on_step: Callable[[Step], None] = lambda step: None,
    ) -> None:
        """Subscribe; before `begin`, only the current task is kept.

        Args:
            node: Node in the graph's domain.
            contract: Robot contract.
            bags: Folder of MCAP files; None: no MCAP.
            dataset: LeRobot dataset; None: no dataset.
            on_step: Called with every step, in the worker's thread.
        """
        self._contract, self._bags, self._dataset, self._on_step = contract, bags, dataset, on_step
        self._lock = threading.Lock()
        self._task = b""
        self._episode: _Episode | None = None
        self.received: Counter[str] = Counter()
        for topic, (kind, profile) in TOPICS.items():
            node.create_subscription(kind, topic, partial(self._take, topic), qos(profile), raw=True)

    def _take(self, topic: str, content: bytes) -> None:
        now = time.time_ns()
        with self._lock:
            self.received[topic] += 1
            if topic == "/vla/task":
                self._task = content
            if self._episode is not None:
                self._episode.offer(topic, content, now)

    def begin(self, name: str, task: str) -> None:
        """Begin an episode; the current task is included.

        Raises:
            DataError: when an episode is in progress, or one of that name exists.
        """
        with self._lock:
            if self._episode is not None:
                raise DataError(f"the episode '{self._episode.name}' is still under way")
            self._episode = _Episode(self._contract, self._bags, self._dataset, self._on_step, name, task)
            if self._task:
                self._episode.offer("/vla/task", self._task, time.time_ns())

    def commit(self, success: bool | None) -> RecordedEpisode:
        """End the episode and keep it.

        Raises:
            VlaError: why it cannot be kept; it is then discarded as a whole.
        """
        return self._ended().commit(success)

    def drop(self) -> None:
        """End the episode and discard it."""
        self._ended().drop()

    @property
    def failure(self) -> str:
        """Why the current episode cannot be kept; "" while it can."""
        with self._lock:
            return "" if self._episode is None or self._episode.error is None else str(self._episode.error)

    def _ended(self) -> _Episode:
        with self._lock:
            if self._episode is None:
                raise DataError("no episode is under way")
            episode, self._episode = self._episode, None
            return episode


class _Episode:
    def __init__(
        self,
        contract: RobotContract,
        bags: Path | None,
        dataset: LeRobotWriter | None,
        on_step: Callable[[Step], None],
        name: str,
        task: str,
    ) -> None:
        self.name, self._task, self._contract, self._on_step = name, task, contract, on_step
        self.error: VlaError | None = None
        self._assembler = new_assembler(contract, name, task)
        self._dataset = dataset
        self._draft: EpisodeInProgress | None = None if dataset is None else dataset.episode(name, task)
        try:
            self._bag = None if bags is None else BagWriter(bags / f"{name}.mcap", contract)
        except BaseException:
            if self._draft is not None:
                self._draft.abort()
            raise
        self._queue: queue.Queue[tuple[str, bytes, int] | None] = queue.Queue(WAITING)
        self._worker = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._worker.start()

    def offer(self, topic: str, content: bytes, now: int) -> None:
        try:
            self._queue.put_nowait((topic, content, now))
        except queue.Full:
            self.error = self.error or DataError(f"episode '{self.name}': the disk is too slow, messages were lost")

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if self.error is not None:
                continue  # it cannot be kept any more; drain the queue so that no thread blocks
            topic, content, now = item
            try:
                if self._bag is not None:
                    self._bag.write(topic, content, now)
                if topic in STEP_TOPICS:
                    message = deserialize_message(content, TOPICS[topic][0])
                    self._store(feed(self._assembler, self._contract, topic, message))
            except VlaError as error:
                self.error = error
            except Exception as error:  # whatever the cause, the episode is incomplete
                self.error = DataError(f"episode '{self.name}' cannot be recorded: {error!r}")

    def _store(self, steps: list[Step]) -> None:
        for step in steps:
            if self._draft is not None:
                self._draft.add(step)
            self._on_step(step)

    def _join(self) -> None:
        with suppress(queue.Full):
            self._queue.put(None, timeout=END_PATIENCE)
            self._worker.join(END_PATIENCE)
        if self._worker.is_alive():
            raise DataError(f"episode '{self.name}': the disk did not take it within {END_PATIENCE:.0f} s")

    def commit(self, success: bool | None) -> RecordedEpisode:
        try:
            self._join()
            if self.error is not None:
                raise self.error
            self._store(self._assembler.finish())
            counts = self._assembler.counts
            if counts.steps == 0:
                raise DataError(
                    f"episode '{self.name}' has no step: {counts.without_action} observations, nothing commanded"
                )
            path = None if self._bag is None else self._bag.finish(self.name, self._task, success)
            try:
                if self._draft is not None:
                    self._draft.commit(success)
            except BaseException:
                if path is not None and not self._is_in_dataset():
                    path.unlink(missing_ok=True)
                raise
            return RecordedEpisode(self.name, counts.steps, counts.without_action, success, path)
        finally:
            self._close()

    def _is_in_dataset(self) -> bool:
        """Return whether the episode was stored; the dataset's statistics are written later and may fail alone."""
        return self._dataset is not None and any(row.name == self.name for row in self._dataset.rows)

    def drop(self) -> None:
        try:
            self._join()
        finally:
            self._close()

    def _close(self) -> None:
        if self._bag is not None:
            self._bag.abort()
        if self._draft is not None:
            self._draft.abort()
