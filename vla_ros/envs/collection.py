"""Collects episodes in several processes, each with its own cell, and keeps a ledger of what became of each seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vla_ros.data.demonstrations import DemonstrationWriter, EpisodeDraft, stored_episodes
from vla_ros.envs.collector import CollectionOptions, Collector, Learner
from vla_ros.envs.processes import work_in_processes
from vla_ros.envs.registry import find_world, make_collector
from vla_ros.errors import VlaError
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.yaml_files import parse_yaml

LEDGER_FILE = "ledger.jsonl"
"""One line a finished seed, failures included: what makes an interrupted collection go on where it stopped."""

MakeLearner = Callable[[RobotContract], Learner]
"""Builds a learner in each process; must be picklable."""


@dataclass(frozen=True)
class EpisodeReport:
    """What became of one seed.

    Attributes:
        seed: Of the episode.
        success: Whether what was asked for last was done.
        steps: How long the episode is.
        stored: Whether it was stored.
        task: What kind of task it began with, e.g. "pick".
    """

    seed: int
    success: bool
    steps: int
    stored: bool
    task: str


@dataclass(frozen=True)
class CollectionJob:
    """What is collected.

    Attributes:
        robot: Name or path of the robot contract.
        world: Name in the table of worlds.
        options: How episodes are made.
        folder: Where they are stored.
        keep_failures: Whether episodes in which the task was not done are stored too: DAgger learns from those.
        learner: Builds who drives in place of the expert, for a share of the steps.
        source: What else is written down beside the episodes, as JSON has it; a folder holds episodes of one source.
    """

    robot: str
    world: str
    options: CollectionOptions
    folder: Path
    keep_failures: bool = False
    learner: MakeLearner | None = None
    source: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Worker:
    """What a process collects with."""

    job: CollectionJob
    collector: Collector
    writer: DemonstrationWriter


def _make_worker(job: CollectionJob) -> _Worker:
    contract = load_contract(job.robot)
    learner = job.learner(contract) if job.learner is not None else None
    return _Worker(job, make_collector(job.world, contract, job.options, learner), _make_writer(job, contract))


def _make_writer(job: CollectionJob, contract: RobotContract) -> DemonstrationWriter:
    source = {
        "expert": "vla_ros.sim", "robot": contract.name, "contract": parse_yaml(contract.text),
        "world": job.world, "options": asdict(job.options),
        "driven_by": "expert" if job.learner is None else "learner", **job.source,
    }  # fmt: skip
    return DemonstrationWriter(job.folder, contract.action, source, contract.gripper.max_opening)


def _collect(worker: _Worker, seed: int) -> tuple[EpisodeReport, EpisodeDraft | None]:
    """Return what became of a seed, and the episode, coded, where it is to be stored."""
    episode = worker.collector.collect(seed)
    stored = episode.success or worker.job.keep_failures
    task = _task(str(episode.arrays["names"][0]), worker.job.world)
    report = EpisodeReport(seed, episode.success, len(episode), stored, task)
    return report, worker.writer.draft(episode) if stored else None


def _task(name: str, world: str) -> str:
    return name.split("|")[0] if "|" in name else world


def collect_in_parallel(job: CollectionJob, seeds: Iterable[int], processes: int) -> Iterator[EpisodeReport]:
    """Collect one episode a seed and yield a report of each as it ends, in no fixed order.

    Seeds that the ledger of the folder knows are not collected again: their reports come first. Failures that were left
    out are collected again where they are to be kept.

    Args:
        job: What to collect.
        seeds: One episode each; the same seed always gives the same episode.
        processes: How many processes work at once.

    Raises:
        VlaError: when robot or world are unknown, the folder holds episodes of another robot, world or kind, the ledger
            cannot be read, or a process was killed.
        Exception: whatever went wrong in a process.
    """
    contract = load_contract(job.robot)
    find_world(job.world)
    writer = _make_writer(job, contract)
    seeds = list(seeds)
    known = _known(job)
    yield from (known[seed] for seed in seeds if seed in known)
    missing = [seed for seed in seeds if seed not in known]
    if not missing:
        return
    with writer, (job.folder / LEDGER_FILE).open("a", encoding="utf-8") as ledger:
        for report, draft in work_in_processes(_make_worker, job, _collect, missing, processes, ordered=False):
            if draft is not None:
                writer.commit(draft)
            ledger.write(json.dumps(asdict(report)) + "\n")
            ledger.flush()
            yield report


def _known(job: CollectionJob) -> dict[int, EpisodeReport]:
    """Return the reports of the seeds that are finished: of the ledger, and of episodes that it had no time to name."""
    reports = read_ledger(job.folder)
    known = {seed: report for seed, report in reports.items() if report.stored or not job.keep_failures}
    for seed, (steps, success, first) in stored_episodes(job.folder, known).items():
        known[seed] = EpisodeReport(seed, success, steps, True, _task(first, job.world))
    return known


def read_ledger(folder: Path) -> dict[int, EpisodeReport]:
    """Return the report of each seed that is finished; a last line that was cut off counts as not written.

    Raises:
        VlaError: naming a line in the middle that is not a report.
    """
    path = folder / LEDGER_FILE
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")
    reports = {}
    for number, line in enumerate(lines):
        if not line:
            continue
        try:
            report = EpisodeReport(**json.loads(line))
        except (ValueError, TypeError) as error:
            if number == len(lines) - 1:
                break
            raise VlaError(f"{path}, line {number + 1}, is no report of an episode: {error}") from error
        reports[report.seed] = report
    return reports
