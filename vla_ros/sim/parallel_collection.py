"""Collects episodes in several processes, each with a cell of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from vla_ros.data.episodes import EpisodeWriter
from vla_ros.robot.contract import load_contract
from vla_ros.sim.collection import CollectionOptions, Collector


@dataclass(frozen=True)
class EpisodeReport:
    """What became of one seed: whether the expert succeeded, how long the episode is, whether it was stored."""

    seed: int
    success: bool
    steps: int
    stored: bool


_collector: Collector
_writer: EpisodeWriter
_keep_failures = False


def _start(robot: str, options: CollectionOptions, folder: Path, keep_failures: bool) -> None:
    global _collector, _writer, _keep_failures
    contract = load_contract(robot)
    _collector = Collector(contract, options)
    _writer = EpisodeWriter(folder, contract.action, {"expert": "vla_ros.sim.expert", "options": asdict(options)})
    _keep_failures = keep_failures


def _collect(seed: int) -> EpisodeReport:
    episode = _collector.collect(seed)
    stored = episode.success or _keep_failures
    if stored:
        _writer.write(episode)
    return EpisodeReport(seed, episode.success, len(episode), stored)


def collect_in_parallel(
    robot: str, seeds: Iterable[int], options: CollectionOptions, folder: Path, processes: int,
    keep_failures: bool = False,
) -> Iterator[EpisodeReport]:  # fmt: skip
    """Collect one episode a seed into `folder` and yield a report of each as it ends, in no fixed order.

    Args:
        robot: Name or path of the robot contract.
        seeds: One episode each; the same seed always gives the same episode.
        options: How episodes are made.
        folder: Where they are stored.
        processes: How many processes work at once.
        keep_failures: Whether episodes in which the expert failed are stored too.
    """
    context = multiprocessing.get_context("spawn")  # an OpenGL context does not survive a fork
    arguments = (robot, options, folder, keep_failures)
    with context.Pool(processes, initializer=_start, initargs=arguments) as pool:
        yield from pool.imap_unordered(_collect, seeds)
