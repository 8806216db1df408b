"""Table of evaluation suites, and the runner that plays them in several processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.envs.processes import work_in_processes
from vla_ros.envs.registry import find_world, make_env
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.envs.tabletop.perturbations import PERTURBATIONS
from vla_ros.evaluation.executors import DirectExecutor, Executor, SafetyExecutor
from vla_ros.evaluation.pick_suite import describe_pick, other_objects, pick_trials, summarise_pick
from vla_ros.evaluation.rollout import POLICY_LATENCY, Player
from vla_ros.evaluation.success_plot import success_plot
from vla_ros.evaluation.tabletop_plot import tabletop_plot
from vla_ros.evaluation.tabletop_suite import describe_tabletop, exchanged, make_trials, summarize_tabletop
from vla_ros.evaluation.trials import Trial, TrialResult
from vla_ros.policies.build import load_executor
from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import load_parameters


@dataclass(frozen=True)
class Suite:
    """Episodes of a suite, and their report.

    Attributes:
        make_trials: Returns a number of episodes with consecutive seeds from a first one; deterministic per seed.
        exchange: Returns episodes with other target objects for the scene that the environment has just played.
        summarize: Returns the metrics of a report.
        describe: Returns the lines of a report.
        draw: Writes a figure of the metrics, with a title, to a path.
    """

    make_trials: Callable[[int, int], list[Trial]]
    exchange: Callable[[Trial, TabletopEnv], list[Trial]]
    summarize: Callable[[Sequence[TrialResult]], dict[str, Any]]
    describe: Callable[[Mapping[str, Any]], list[str]]
    draw: Callable[[Mapping[str, Any], str, Path], None]


SUITES: Mapping[str, Suite] = {
    "pick": Suite(pick_trials, other_objects, summarise_pick, describe_pick, success_plot),
    "tabletop": Suite(make_trials, exchanged, summarize_tabletop, describe_tabletop, tabletop_plot),
}
"""Suites by the name of their world."""


@dataclass(frozen=True)
class SuiteOptions:
    """Settings of an evaluation; `exchange` adds episodes with other target objects, `safety` off is for comparison.

    `execution` is the execution mode of chunks, a `Mode` of `vla_ros.policies.execution`.
    """

    robot: str
    policy: str
    device: str = "cpu"
    safety: bool = True
    exchange: bool = False
    suite: str = "pick"
    execution: str = "auto"


@dataclass(frozen=True)
class _Worker:
    """Environment and player of one process."""

    options: SuiteOptions
    env: TabletopEnv
    player: Player


def _make_worker(options: SuiteOptions) -> _Worker:
    """Build a worker for its own process; the policy computes in one thread."""
    import torch

    torch.set_num_threads(1)
    contract = load_contract(options.robot)
    executor: Executor = SafetyExecutor(contract, load_parameters()) if options.safety else DirectExecutor(contract)
    env = make_env(options.suite, contract)
    policy = load_executor(options.policy, contract, options.device, execution=options.execution)
    return _Worker(options, env, Player(env, policy, executor))


def _play(worker: _Worker, trial: Trial) -> list[TrialResult]:
    results = [_play_one(worker, trial)]
    if worker.options.exchange:
        others = SUITES[worker.options.suite].exchange(trial, worker.env)
        results += [_play_one(worker, other) for other in others]
    return results


def _play_one(worker: _Worker, trial: Trial) -> TrialResult:
    change = PERTURBATIONS[trial.perturbation]
    worker.env.perturbation = change
    result = worker.player.play(
        trial.seed,
        trial.sentence or None,
        scene=trial.scene or None,
        latency=POLICY_LATENCY + change.delay,
        max_seconds=find_world(worker.options.suite).max_seconds,
    )
    return TrialResult(trial, result)


def play_suite(
    options: SuiteOptions, trials: Sequence[Trial], processes: int
) -> Generator[list[TrialResult], None, None]:
    """Yield the results of each episode and of its exchanges as they finish, in the order of the episodes.

    Raises:
        CheckpointError: when the policy cannot be loaded.
        VlaError: when the robot is unknown, its workcell cannot be built, or a process was killed.
    """
    yield from work_in_processes(_make_worker, options, _play, trials, processes)
