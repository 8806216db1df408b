"""Collects episodes in several processes, one workcell each, and keeps a ledger of the outcome of each seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vla_ros.data.episodes.demonstrations import DemonstrationWriter, EpisodeDraft, stored_episodes
from vla_ros.envs.collector import CollectionOptions, Collector, Learner
from vla_ros.envs.processes import work_in_processes
from vla_ros.envs.registry import find_world, make_collector
from vla_ros.errors import VlaError
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.yaml_files import parse_yaml

LEDGER_FILE = "ledger.jsonl"
"""One line per finished seed, failures included; lets an interrupted collection resume."""

MakeLearner = Callable[[RobotContract], Learner]
"""Builds a learner in each process; must be picklable."""


@dataclass(frozen=True)
class EpisodeReport:
    """Outcome of one seed.

    Attributes:
        seed: Seed of the episode.
        success: Whether the last instruction was carried out.
        steps: Number of steps.
        stored: Whether it was stored.
        task: Type of its first task, e.g. "pick".
    """

    seed: int
    success: bool
    steps: int
    stored: bool
    task: str


@dataclass(frozen=True)
class CollectionJob:
    """Configuration of a collection.

    Attributes:
        robot: Name or path of the robot contract.
        world: Name in the table of worlds.
        options: Options of the episodes.
        folder: Folder for the episodes.
        keep_failures: Whether failed episodes are stored too: DAgger learns from those.
        learner: Builds the policy that drives for a fraction of the steps in place of the expert.
        source: Additional metadata stored beside the episodes, JSON-compatible; a folder holds episodes of one source.
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
    """State of one collecting process."""

    job: CollectionJob
    collector: Collector
    writer: DemonstrationWriter


def _make_worker(job: CollectionJob) -> _Worker:
    contract = load_contract(job.robot)
    learner = job.learner(contract) if job.learner is not None else None
    return _Worker(job, make_collector(job.world, contract, job.options, learner), _make_writer(job, contract))


def _make_writer(job: CollectionJob, contract: RobotContract) -> DemonstrationWriter:
    options = asdict(job.options)
    options["learner_share"] = options.pop("learner_fraction")  # the key in earlier data sets, which may be extended
    source = {
        "expert": "vla_ros.sim",
        "robot": contract.name,
        "contract": parse_yaml(contract.text),
        "world": job.world,
        "options": options,
        "driven_by": "expert" if job.learner is None else "learner",
        **job.source,
    }
    return DemonstrationWriter(job.folder, contract.action, source, contract.gripper.max_opening)


def _collect(worker: _Worker, seed: int) -> tuple[EpisodeReport, EpisodeDraft | None]:
    """Return the report of a seed, and the encoded episode if it is to be stored."""
    episode = worker.collector.collect(seed)
    stored = episode.success or worker.job.keep_failures
    task = _task(str(episode.arrays["names"][0]), worker.job.world)
    report = EpisodeReport(seed, episode.success, len(episode), stored, task)
    return report, worker.writer.draft(episode) if stored else None


def _task(name: str, world: str) -> str:
    return name.split("|")[0] if "|" in name else world


def collect_in_parallel(job: CollectionJob, seeds: Iterable[int], processes: int) -> Iterator[EpisodeReport]:
    """Collect one episode per seed and yield each report as its episode ends, in no fixed order.

    Seeds in the folder's ledger are not collected again: their reports come first. Failures that were not stored are
    collected again if failures are to be kept.

    Args:
        job: What to collect.
        seeds: One episode each; the same seed always gives the same episode.
        processes: Number of parallel processes.

    Raises:
        VlaError: when robot or world are unknown, the folder holds episodes of another robot, world or source, the
            ledger cannot be read, or a process was killed.
        Exception: any error raised in a process.
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
    """Return reports of finished seeds: from the ledger, and of stored episodes missing from it."""
    reports = read_ledger(job.folder)
    known = {seed: report for seed, report in reports.items() if report.stored or not job.keep_failures}
    for seed, (steps, success, first) in stored_episodes(job.folder, known).items():
        known[seed] = EpisodeReport(seed, success, steps, True, _task(first, job.world))
    return known


def read_ledger(folder: Path) -> dict[int, EpisodeReport]:
    """Return the report of each finished seed; a truncated last line is ignored.

    Raises:
        VlaError: naming any other line that is not a report.
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
