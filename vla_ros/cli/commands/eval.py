"""`vla-ros eval`: measure a policy's success rate over unseen scenes, with its confidence interval."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.cli.arguments import device, execution_mode, natural, path, positive_int
from vla_ros.cli.failures import require_output
from vla_ros.errors import UsageError, VlaError

if TYPE_CHECKING:
    from vla_ros.evaluation.journal import Journal
    from vla_ros.evaluation.paired import Outcomes
    from vla_ros.evaluation.rollout import RolloutResult
    from vla_ros.evaluation.suite import SuiteOptions
    from vla_ros.evaluation.trials import Trial, TrialResult

    Play = Callable[[SuiteOptions, Sequence[Trial]], Generator[Sequence[TrialResult], None, None]]

HELP = "measure a policy's success in the simulator"

EXAMPLES = (
    "vla-ros eval --task pick --episodes 100 --seed 1000",
    "vla-ros eval --suite tabletop --episodes 36 --resume",
    "vla-ros eval --via ros --episodes 10 --resume",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--task", choices=["pick"], help="what is asked for (default: pick)")
    parser.add_argument(
        "--suite",
        choices=["tabletop"],
        help="every tabletop task, split and perturbation instead: 36 "
        "episodes visit each combination once (core; ros plays only the episodes without a "
        "perturbation, a third of them)",
    )
    parser.add_argument("--episodes", type=positive_int, default=100, help="how many scenes (one a seed)")
    parser.add_argument("--seed", type=natural, default=1000, help="first seed")
    parser.add_argument("--robot", default="panda", help="robot contract (name or YAML file)")
    parser.add_argument(
        "--policy",
        help="folder, policy file, openpi://host:port or module:Class (default: the one that ships for the task or the "
        "suite)",
    )
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, auto")
    parser.add_argument(
        "--execution",
        type=execution_mode,
        default="auto",
        help="how chunks follow each other: auto, "
        "synchronous, asynchronous, ensembling or real_time_chunking (docs/policies.md)",
    )
    parser.add_argument(
        "--via",
        choices=["core", "ros", "gazebo"],
        default="core",
        help="core: in one process, in lock-step; ros: through the real ROS 2 graph; "
        "gazebo: the same graph with Gazebo in place of MuJoCo",
    )
    parser.add_argument("--controllers", choices=["gz", "ros2_control"], help="who moves the arm (gazebo; default: gz)")
    parser.add_argument(
        "--exchange", action="store_true", help="ask for every other object of each scene as well (core)"
    )
    parser.add_argument("--no-safety", action="store_true", help="without the safety layer (core only, to compare)")
    parser.add_argument("--processes", type=positive_int, help="how many work at once (core; default: one a processor)")
    parser.add_argument(
        "--resume", action="store_true", help="play only what is missing in the journal of the run before"
    )
    parser.add_argument(
        "--against",
        type=path,
        metavar="REPORT",
        help="compare with the report (.json) of another policy over the same scenes",
    )
    parser.add_argument(
        "--out",
        type=path,
        default=Path("runs/eval"),
        help="folder of the report, its picture and the logs of the nodes",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Evaluate and report; return 0 if every scene was played, whatever the outcome.

    Raises:
        UsageError: when an option would have no effect, or names something that does not exist.
    """
    from vla_ros.evaluation.suite import SUITES
    from vla_ros.policies.build import robot_for
    from vla_ros.policies.registry import SHIPPED, find_policy
    from vla_ros.robot.contract import load_contract

    if complaint := _complaint(args):
        raise UsageError(complaint)
    try:
        against = _read_report(args) if args.against else None
    except VlaError as error:
        raise UsageError(f"--against {args.against}: {error}") from error
    kind, name = ("suite", args.suite) if args.suite else ("task", args.task or "pick")
    args.processes = args.processes or os.cpu_count() or 1
    args.controllers = args.controllers or "gz"
    args.policy = args.policy or SHIPPED[name]
    load_contract(args.robot)  # check it and the policy before processes start
    find_policy(args.policy)
    require_output(args.out)
    args.robot = robot_for(args.policy, args.robot, args.out / "robot")
    begin, suite = time.monotonic(), SUITES[name]
    report = args.out / _report_name(args, name)
    results = _results(args, name, suite.make_trials(args.episodes, args.seed), report.with_suffix(".jsonl"))
    figures = {
        kind: name,
        "via": args.via,
        "policy": args.policy,
        "seed": args.seed,
        "safety": not args.no_safety,
        **suite.summarize(results),
        **_compared(against, results),
        "wall_seconds": round(time.monotonic() - begin, 1),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    rollouts = {"rollouts": [asdict(result) for result in results]}
    report.write_text(json.dumps(figures | rollouts, indent=1), encoding="utf-8")
    title = f"{args.policy}: {name}, {figures['episodes']} episodes via {args.via}"
    suite.draw(figures, title, report.with_suffix(".png"))
    low, high = figures["success_ci95"]
    print(f"success {figures['success_rate']:.3f} (95 %: {low:.3f} to {high:.3f}) in {figures['episodes']} episodes")
    print(*suite.describe(figures), sep="\n")
    _say_who_won(args, figures)
    print(f"report and picture in {report}, {report.with_suffix('.png').name}")
    if args.json:
        print(json.dumps(figures))
    return 0


def _complaint(args: argparse.Namespace) -> str:
    """Return which options are invalid or would have no effect, and what works; "" if none."""
    if args.suite and args.task:
        return f"--task {args.task} has no effect with --suite, which plays all of its tasks: leave one of them out"
    if args.suite and args.via == "gazebo":
        return f"--suite {args.suite} is played --via core or --via ros, got --via gazebo"
    if args.controllers and args.via != "gazebo":
        return f"--controllers has no effect with --via {args.via}: leave it out, or use --via gazebo"
    core_only = {"--exchange": args.exchange, "--no-safety": args.no_safety, "--processes": args.processes is not None}
    without_effect = [option for option, given in core_only.items() if given]
    if without_effect and args.via != "core":
        verb = "has" if len(without_effect) == 1 else "have"
        return f"{', '.join(without_effect)} {verb} no effect with --via {args.via}: leave out, or use --via core"
    return ""


def _read_report(args: argparse.Namespace) -> Outcomes:
    """Return the outcomes of the policy to compare with.

    Raises:
        VlaError: when the file is not a report, or has none of these scenes.
    """
    from vla_ros.evaluation.paired import outcomes

    try:
        report = json.loads(args.against.read_text(encoding="utf-8"))
        rollouts = report["rollouts"]
    except OSError as error:
        raise VlaError(error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise VlaError("not a report (.json) that `vla-ros eval` wrote: it has no 'rollouts'") from error
    found = outcomes(rollouts)
    if not {seed for seed, _ in found} & set(range(args.seed, args.seed + args.episodes)):
        raise VlaError(f"played none of the scenes {args.seed} to {args.seed + args.episodes - 1}")
    return found


def _compared(against: Outcomes | None, results: Sequence[TrialResult]) -> dict[str, Any]:
    """Return the comparison with the other policy under "against"; empty if there is none."""
    from vla_ros.evaluation.paired import compare, outcomes

    return {} if against is None else {"against": compare(outcomes(map(asdict, results)), against)}


def _say_who_won(args: argparse.Namespace, figures: Mapping[str, Any]) -> None:
    if other := figures.get("against"):
        print(
            f"against {args.against}: success {other['success_rate']:.3f} over the same {other['scenes']} scenes; "
            f"won {other['won']}, lost {other['lost']} (p = {other['p']:.2f})"
        )


def _results(args: argparse.Namespace, suite: str, trials: Sequence[Trial], path: Path) -> list[TrialResult]:
    """Play the episodes that `--via` supports; each is journaled as it ends.

    An interruption loses at most one episode: those in the journal at `path` are not played again.
    """
    from tqdm import tqdm

    from vla_ros.evaluation.journal import Journal
    from vla_ros.evaluation.suite import SuiteOptions
    from vla_ros.evaluation.trials import TrialResult

    options = SuiteOptions(
        args.robot, args.policy, args.device, not args.no_safety, args.exchange, suite, args.execution
    )
    if args.via != "core":
        trials = [trial for trial in trials if trial.perturbation == "none"]  # the others change the simulator
    journal = Journal(path, args.resume)
    _require_same(journal, asdict(options) | ({"controllers": args.controllers} if args.via == "gazebo" else {}))
    missing = [trial for trial in trials if str(trial.seed) not in journal]
    if missing:
        # Closed explicitly: a graph interrupted by an error shuts down here, and not at garbage collection.
        with contextlib.closing(_player(args)(options, missing)) as played:
            bar = tqdm(zip(missing, played, strict=True), total=len(missing), unit="scene", desc=f"eval via {args.via}")
            for trial, group in bar:
                journal.add(str(trial.seed), {"results": [asdict(one) for one in group]})
    return [TrialResult.from_dict(row) for trial in trials for row in journal.rows[str(trial.seed)]["results"]]


def _player(args: argparse.Namespace) -> Play:
    """Return the function that plays episodes: in worker processes, or one after another through a graph."""

    def in_processes(options: SuiteOptions, trials: Sequence[Trial]) -> Generator[Sequence[TrialResult], None, None]:
        from vla_ros.evaluation.suite import play_suite

        return play_suite(options, trials, args.processes)

    def through_graph(options: SuiteOptions, trials: Sequence[Trial]) -> Generator[Sequence[TrialResult], None, None]:
        from vla_ros.evaluation.trials import TrialResult

        with contextlib.closing(_via_graph(args, options, trials)) as results:
            for trial, result in zip(trials, results, strict=True):
                yield [TrialResult(trial, result)]

    return in_processes if args.via == "core" else through_graph


def _via_graph(
    args: argparse.Namespace, options: SuiteOptions, trials: Sequence[Trial]
) -> Generator[RolloutResult, None, None]:
    """Play episodes through the real graph, with MuJoCo or Gazebo."""
    seeds, folder = [trial.seed for trial in trials], str(args.out)
    if args.via == "gazebo":
        from vla_ros.client.gazebo_evaluation import evaluate_in_gazebo

        return evaluate_in_gazebo(
            options.robot,
            options.policy,
            options.device,
            seeds,
            folder=folder,
            controllers=args.controllers,
            execution=options.execution,
        )
    from vla_ros.client.evaluation import evaluate_through_graph

    sentences = [trial.sentence for trial in trials]
    return evaluate_through_graph(
        options.robot,
        options.policy,
        options.device,
        seeds,
        world=options.suite,
        sentences=sentences,
        folder=folder,
        execution=options.execution,
    )


def _report_name(args: argparse.Namespace, suite: str) -> str:
    exchange = "_exchange" if args.exchange and suite == "pick" else ""
    return f"{suite}_{args.via}_{args.seed}_{args.episodes}{exchange}.json"


def _require_same(journal: Journal, options: Mapping[str, Any]) -> None:
    """Write the options of the evaluation into its journal, or reject a journal written with other options.

    Raises:
        VlaError: naming the options in the journal.
    """
    if journal.rows.get("options", options) != options:
        raise VlaError(f"{journal.path} was written with {journal.rows['options']}: evaluate without --resume")
    if "options" not in journal:
        journal.add("options", options)
