"""`vla-ros eval`: success of a policy over unseen scenes, with its confidence interval."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vla_ros.cli.arguments import device, natural, path, positive_int
from vla_ros.cli.failures import require_output
from vla_ros.errors import UsageError, VlaError

if TYPE_CHECKING:
    from vla_ros.evaluation.journal import Journal
    from vla_ros.evaluation.paired import Outcomes
    from vla_ros.evaluation.player import SuiteOptions
    from vla_ros.evaluation.rollout import RolloutResult
    from vla_ros.evaluation.tabletop_suite import Trial, TrialResult

Scene = TypeVar("Scene")

HELP = "measure a policy's success in the simulator"

EXAMPLES = (
    "vla-ros eval --task pick --episodes 100 --seed 1000",
    "vla-ros eval --suite tabletop --episodes 36 --resume",
    "vla-ros eval --via ros --episodes 10 --resume",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--task", choices=["pick"], help="what is asked for (default: pick)")
    parser.add_argument("--suite", choices=["tabletop"], help="every tabletop task, split and perturbation instead: 36 "
                        "episodes visit each combination once (core; ros plays only the episodes without a "
                        "perturbation, a third of them)")  # fmt: skip
    parser.add_argument("--episodes", type=positive_int, default=100, help="how many scenes (one a seed)")
    parser.add_argument("--seed", type=natural, default=1000, help="first seed")
    parser.add_argument("--robot", default="panda", help="robot contract (name or YAML file)")
    parser.add_argument(
        "--policy",
        help="folder, policy file, openpi://host:port or module:Class (default: the one that ships for the task or the "
        "suite)",
    )
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, auto")
    parser.add_argument("--via", choices=["core", "ros", "gazebo"], default="core",
                        help="core: in one process, in lock-step; ros: through the real ROS 2 graph; "
                        "gazebo: the same graph with Gazebo in place of MuJoCo")  # fmt: skip
    parser.add_argument("--controllers", choices=["gz", "ros2_control"], help="who moves the arm (gazebo; default: gz)")
    parser.add_argument("--exchange", action="store_true", help="ask for every other object of each scene as well "
                        "(core)")  # fmt: skip
    parser.add_argument("--no-safety", action="store_true", help="without the safety layer (core only, to compare)")
    parser.add_argument("--processes", type=positive_int, help="how many work at once (core; default: one a processor)")
    parser.add_argument("--resume", action="store_true", help="play only what is missing in the journal of the run "
                        "before")  # fmt: skip
    parser.add_argument("--against", type=path, metavar="REPORT", help="compare with the report (.json) of another "
                        "policy over the same scenes")  # fmt: skip
    parser.add_argument("--out", type=path, default=Path("runs/eval"), help="folder of the report, its picture and "
                        "the logs of the nodes")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Evaluate and report; 0 when every scene was played, whatever came of it.

    Raises:
        UsageError: when an option would have no effect, or names what is not there.
    """
    from vla_ros.evaluation.picture import success_picture
    from vla_ros.evaluation.suite import summarise
    from vla_ros.policies.registry import SHIPPED, find_policy
    from vla_ros.robot.contract import load_contract

    if complaint := _complaint(args):
        raise UsageError(complaint)
    try:
        against = _read_report(args) if args.against else None
    except VlaError as error:
        raise UsageError(f"--against {args.against}: {error}") from error
    args.task, args.processes = args.task or "pick", args.processes or os.cpu_count() or 1
    args.controllers = args.controllers or "gz"
    args.policy = args.policy or SHIPPED[args.suite or args.task]
    load_contract(args.robot)  # this and the policy before processes start
    find_policy(args.policy)
    require_output(args.out)
    if args.suite == "tabletop":
        return _tabletop(args, against)
    begin = time.monotonic()
    seeds = range(args.seed, args.seed + args.episodes)
    results = {"core": _via_core, "ros": _via_ros, "gazebo": _via_gazebo}[args.via](args, seeds)
    figures = {"task": args.task, "via": args.via, "policy": args.policy, "seed": args.seed,
               "safety": not args.no_safety, **summarise(results), **_compared(against, results),
               "wall_seconds": round(time.monotonic() - begin, 1)}  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    name = _name(args)
    report = {**figures, "rollouts": [asdict(result) for result in results]}
    (args.out / f"{name}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    success_picture(figures, f"{args.policy}: {args.task}, {len(results)} episodes via {args.via}",
                    args.out / f"{name}.png")  # fmt: skip
    low, high = figures["success_ci95"]
    print(f"success {figures['success_rate']:.3f} (95 %: {low:.3f} to {high:.3f}) in {figures['episodes']} episodes")
    print(f"{figures['picked_the_named_one']} of the {figures['picked_something']} objects lifted were the named one")
    _say_who_won(args, figures)
    print(f"report and picture in {args.out / name}.json, .png")
    if args.json:
        print(json.dumps(figures))
    return 0


def _complaint(args: argparse.Namespace) -> str:
    """Say which value makes no sense or which option would have no effect, and what works; "" when all is well."""
    if args.suite and args.task:
        return f"--task {args.task} has no effect with --suite, which plays all of its tasks: leave one of them out"
    if args.suite and args.via == "gazebo":
        return f"--suite {args.suite} is played --via core or --via ros, got --via gazebo"
    if args.controllers and args.via != "gazebo":
        return f"--controllers has no effect with --via {args.via}: leave it out, or use --via gazebo"
    core_only = {"--exchange": args.exchange, "--no-safety": args.no_safety,
                 "--processes": args.processes is not None}  # fmt: skip
    without_effect = [option for option, given in core_only.items() if given]
    if without_effect and args.via != "core":
        verb = "has" if len(without_effect) == 1 else "have"
        return f"{', '.join(without_effect)} {verb} no effect with --via {args.via}: leave out, or use --via core"
    return ""


def _read_report(args: argparse.Namespace) -> Outcomes:
    """Return what the policy to compare with made of the scenes.

    Raises:
        VlaError: when the file is no report, or of other scenes.
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


def _compared(against: Outcomes | None, results: Sequence[TrialResult] | Sequence[RolloutResult]) -> dict[str, Any]:
    """Return the comparison with another policy under "against", if there is one to compare with."""
    from vla_ros.evaluation.paired import compare, outcomes

    return {} if against is None else {"against": compare(outcomes(map(asdict, results)), against)}


def _say_who_won(args: argparse.Namespace, figures: Mapping[str, Any]) -> None:
    if other := figures.get("against"):
        print(f"against {args.against}: success {other['success_rate']:.3f} over the same {other['scenes']} scenes; "
              f"won {other['won']}, lost {other['lost']} (p = {other['p']:.2f})")  # fmt: skip


def _tabletop(args: argparse.Namespace, against: Outcomes | None) -> int:
    """Play the tabletop suite and report."""
    from vla_ros.evaluation.tabletop_picture import tabletop_picture
    from vla_ros.evaluation.tabletop_suite import make_trials, summarise_tabletop

    begin = time.monotonic()
    trials = make_trials(args.episodes, args.seed)
    path = args.out / f"tabletop_{args.via}_{args.seed}_{args.episodes}.json"
    results = _tabletop_trials(args, trials, path.with_suffix(".jsonl"))
    figures = {"suite": "tabletop", "via": args.via, "policy": args.policy, "seed": args.seed,
               "safety": not args.no_safety, **summarise_tabletop(results), **_compared(against, results),
               "wall_seconds": round(time.monotonic() - begin, 1)}  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    report = {**figures, "rollouts": [asdict(result) for result in results]}
    path.write_text(json.dumps(report, indent=1), encoding="utf-8")
    tabletop_picture(figures, f"{args.policy}: tabletop, {figures['episodes']} episodes", path.with_suffix(".png"))
    low, high = figures["success_ci95"]
    print(f"success {figures['success_rate']:.3f} (95 %: {low:.3f} to {high:.3f}) in {figures['episodes']} episodes")
    for group, table in figures["by"].items():
        for name, one in table.items():
            low, high = one["success_ci95"]
            print(f"  {group:<14} {name:<24} {one['success_rate']:.3f} ({low:.3f} to {high:.3f}), n={one['episodes']}")
    _say_who_won(args, figures)
    print(f"report and picture in {path}, {path.with_suffix('.png').name}")
    if args.json:
        print(json.dumps(figures))
    return 0


def _tabletop_trials(args: argparse.Namespace, trials: Sequence[Trial], path: Path) -> list[TrialResult]:
    """Play the trials, through the real graph those that change nothing in the simulator."""
    from vla_ros.evaluation.tabletop_suite import TrialResult, play_tabletop

    def in_process(options: SuiteOptions, missing: Sequence[Trial]) -> Generator[Sequence[TrialResult], None, None]:
        return play_tabletop(options, missing, args.processes)

    def through_graph(options: SuiteOptions, missing: Sequence[Trial]) -> Generator[Sequence[TrialResult], None, None]:
        from vla_ros.nodes.evaluation import evaluate_through_graph

        results = evaluate_through_graph(
            options.robot, options.policy, options.device, [trial.seed for trial in missing], world="tabletop",
            sentences=[trial.sentence for trial in missing], folder=str(args.out),
        )  # fmt: skip
        with contextlib.closing(results):
            for trial, group in zip(missing, results, strict=True):
                yield [TrialResult(trial, result) for result in group]

    played = [trial for trial in trials if args.via == "core" or trial.perturbation == "none"]
    play = in_process if args.via == "core" else through_graph
    return list(map(TrialResult.from_dict, _play(args, path, {trial.seed: trial for trial in played}, play)))


def _play(
    args: argparse.Namespace,
    path: Path,
    scenes: Mapping[int, Scene],
    play: Callable[[SuiteOptions, Sequence[Scene]], Generator[Sequence[Any], None, None]],
) -> list[Mapping[str, Any]]:
    """Play what the journal lacks; each scene is written down as it ends, so that an interruption loses one at most.

    Args:
        args: Of the command.
        path: Of the journal.
        scenes: By their seeds.
        play: Yields the results of each scene, dataclasses, as it ends.

    Returns:
        The results of all scenes as mappings.
    """
    from tqdm import tqdm

    from vla_ros.evaluation.journal import Journal
    from vla_ros.evaluation.player import SuiteOptions

    options = SuiteOptions(args.robot, args.policy, args.device, not args.no_safety, args.exchange)
    journal = Journal(path, args.resume)
    _require_same(journal, asdict(options) | ({"controllers": args.controllers} if args.via == "gazebo" else {}))
    missing = [seed for seed in scenes if str(seed) not in journal]
    if missing:
        # Closed: a graph that an error interrupts ends here, and not when the interpreter gets round to it.
        with contextlib.closing(play(options, [scenes[seed] for seed in missing])) as played:
            bar = tqdm(zip(missing, played, strict=True), total=len(missing), unit="scene", desc=f"eval via {args.via}")
            for seed, group in bar:
                journal.add(str(seed), {"results": [asdict(one) for one in group]})
    return [row for seed in scenes for row in journal.rows[str(seed)]["results"]]


def _rollouts(
    args: argparse.Namespace,
    seeds: Sequence[int],
    play: Callable[[SuiteOptions, Sequence[int]], Generator[Sequence[Any], None, None]],
) -> list[RolloutResult]:
    from vla_ros.evaluation.rollout import RolloutResult

    rows = _play(args, args.out / f"{_name(args)}.jsonl", {seed: seed for seed in seeds}, play)
    return [RolloutResult(**row) for row in rows]


def _via_core(args: argparse.Namespace, seeds: Sequence[int]) -> list[RolloutResult]:
    from vla_ros.evaluation.suite import play_suite

    return _rollouts(args, seeds, lambda options, missing: play_suite(options, missing, args.processes))


def _via_ros(args: argparse.Namespace, seeds: Sequence[int]) -> list[RolloutResult]:
    from vla_ros.nodes.evaluation import evaluate_through_graph

    def play(options: SuiteOptions, missing: Sequence[int]) -> Generator[list[RolloutResult], None, None]:
        return evaluate_through_graph(options.robot, options.policy, options.device, missing, folder=str(args.out))

    return _rollouts(args, seeds, play)


def _via_gazebo(args: argparse.Namespace, seeds: Sequence[int]) -> list[RolloutResult]:
    from vla_ros.nodes.gazebo_evaluation import evaluate_in_gazebo

    def play(options: SuiteOptions, missing: Sequence[int]) -> Generator[list[RolloutResult], None, None]:
        return evaluate_in_gazebo(
            options.robot,
            options.policy,
            options.device,
            missing,
            folder=str(args.out),
            controllers=args.controllers,
        )

    return _rollouts(args, seeds, play)


def _name(args: argparse.Namespace) -> str:
    """Return the name, without its ending, of the files of a run."""
    return f"{args.task}_{args.via}_{args.seed}_{args.episodes}" + ("_exchange" if args.exchange else "")


def _require_same(journal: Journal, options: Mapping[str, Any]) -> None:
    """Write into a journal how its scenes are played, or refuse one whose scenes were played otherwise.

    Raises:
        VlaError: saying how they were.
    """
    if journal.rows.get("options", options) != options:
        raise VlaError(f"{journal.path} was written with {journal.rows['options']}: evaluate without --resume")
    if "options" not in journal:
        journal.add("options", options)
