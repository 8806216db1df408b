"""`vla-ros record`: record episodes from the running graph, driven by a policy or from the keyboard."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.cli.arguments import domain as domain_option
from vla_ros.cli.arguments import natural, path, positive, positive_int
from vla_ros.cli.failures import EXPECTED, explain, require_output
from vla_ros.domain_id import domain_id_of_shell
from vla_ros.errors import CheckpointError, ContractError, UsageError, VlaError

if TYPE_CHECKING:
    from vla_ros.bringup.runner import GraphRunner
    from vla_ros.cli.keys import Keys
    from vla_ros.data.lerobot.writer import LeRobotWriter
    from vla_ros.policies.keyboard import KeyboardPolicy
    from vla_ros.recording.recorder import Recorder
    from vla_ros.recording.teleoperation import Teleoperation
    from vla_ros.robot.contract import RobotContract

HELP = "record episodes from the live graph"

EXAMPLES = (
    "vla-ros record --episodes 10 --format lerobot",
    "vla-ros record --teleop --episodes 10",
    'vla-ros record --real --teleop --instruction "push the red cube to the left" --task push',
)

FORMATS = ("lerobot", "mcap")
LONGEST, LONGEST_BY_HAND = 30.0, 300.0
"""Maximum duration of an episode driven by a policy and by a person, s: beginners look more than they move."""

READY_LIMIT = 30.0  # s, for each step of the preparation
TELL_AGAIN = 5.0  # s between lines that say what is still awaited
KEEP, FAIL, AGAIN, QUIT = "\n", "x", "\x7f", "\x1b"
MARKS = "Enter: success   x: failure   Backspace: again   Esc: end"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--robot", default="panda", help="robot contract: a name or a YAML file")
    parser.add_argument("--policy", default="checkpoints/pick", help="who drives (default %(default)s)")
    parser.add_argument(
        "--teleop", action="store_true", help="a person drives with the keyboard, and marks the outcome"
    )
    parser.add_argument(
        "--real", action="store_true", help="on a robot, with --teleop: no simulator; scenes are set up by hand"
    )
    parser.add_argument("--instruction", default="", help="what to do; by default what the scene suggests")
    parser.add_argument("--episodes", type=positive_int, default=10, help="how many to keep (default %(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="first scene (default %(default)s)")
    parser.add_argument(
        "--timeout",
        type=positive,
        help=f"longest episode, s (default {LONGEST:.0f}; with --teleop {LONGEST_BY_HAND:.0f})",
    )
    parser.add_argument("--task", default="pick", help="name of the task in the data set (default %(default)s)")
    parser.add_argument("--format", action="append", choices=FORMATS, help="once or twice (default: both)")
    parser.add_argument("--out", type=path, default=Path("runs/data/recorded"), help="folder (default %(default)s)")
    parser.add_argument("--keep-failures", action="store_true", help="keep episodes that failed, marked as such")
    parser.add_argument(
        "--domain",
        type=domain_option,
        help="ROS domain id (default: one that nobody uses; with --real ROS_DOMAIN_ID, or 0)",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Record; return 0 if the requested number of episodes was kept.

    Raises:
        UsageError: when options are incompatible, or name something that does not exist.
    """
    from vla_ros.policies.build import robot_for
    from vla_ros.policies.registry import find_policy
    from vla_ros.robot.contract import load_contract

    try:
        contract = load_contract(args.robot)
        if not args.teleop:
            find_policy(args.policy)
    except (ContractError, CheckpointError) as error:
        raise UsageError(str(error)) from error
    if args.real and not args.instruction:
        raise UsageError("--real needs --instruction: no scene suggests one")
    if args.real and not args.teleop:
        raise UsageError(
            "--real needs --teleop: nobody but a person says when an episode on a robot has ended, and how. What a "
            "policy does there is recorded by 'ros2 launch vla_ros record.launch.py'"
        )
    domain = _domain(args)
    require_output(args.out)
    if not args.teleop:
        args.robot = robot_for(args.policy, args.robot, args.out / "robot")
        contract = load_contract(args.robot)
    from vla_ros.bringup.runner import GraphRunner

    figures: dict[str, Any] = {
        "kept": 0,
        "failed": 0,
        "dropped": 0,
        "steps": 0,
        "without_action": 0,
        "folder": str(args.out),
    }
    try:
        with ExitStack() as stack:
            keys = stack.enter_context(_keys(args.teleop))
            arguments = {"robot": args.robot, "seed": args.seed, "use_sim_time": not args.real}
            if not args.teleop:
                arguments["policy"] = args.policy
            graph = stack.enter_context(
                GraphRunner(
                    arguments,
                    graph=_graph(args.teleop),
                    simulation=not args.real,
                    domain=domain,
                    folder=args.out / "log",
                    disarms=True,
                    progress=print,
                )
            )
            dataset = stack.enter_context(_dataset(args, contract)) if "lerobot" in _formats(args) else None
            session = _Session(args, contract, graph, dataset, keys, figures)
            stack.callback(session.close)
            session.play()
    except EXPECTED as error:
        sentence = explain(error)
        figures["error"] = sentence.splitlines()[0]
        print(f"vla-ros record: {sentence}", file=sys.stderr)
    except KeyboardInterrupt:
        figures["error"] = "interrupted"
    print(
        f"kept {figures['kept']} episodes ({figures['steps']} steps) in {args.out}; {figures['failed']} failed, "
        f"{figures['dropped']} were dropped"
    )
    if args.json:
        print(json.dumps(figures))
    return 0 if figures["kept"] == args.episodes else 1


def _formats(args: argparse.Namespace) -> tuple[str, ...]:
    return tuple(args.format or FORMATS)


def _domain(args: argparse.Namespace) -> int | None:
    """Return the ROS domain id; None for an unused one. A real robot needs that of its drivers."""
    if args.domain is not None:
        return int(args.domain)
    if not args.real:
        return None
    return domain_id_of_shell()


def _keys(wanted: bool) -> AbstractContextManager[Keys | None]:
    from vla_ros.cli.keys import single_keys

    return single_keys() if wanted else nullcontext(None)


def _graph(teleop: bool) -> Any:  # noqa: ANN401 (a Graph, imported late)
    """Return the shipped graph, for teleoperation without the policy node."""
    from vla_ros.ros.graph.description import load_graph

    graph = load_graph()
    return graph.without("policy_node") if teleop else graph


def _dataset(args: argparse.Namespace, contract: RobotContract) -> LeRobotWriter:
    from vla_ros.data.lerobot.writer import LeRobotWriter
    from vla_ros.recording.bag import description

    sizes = {camera.name: (camera.policy_height, camera.policy_width) for camera in contract.cameras}
    return LeRobotWriter(args.out / "lerobot", description(contract, "recorded"), sizes, robot=contract.name)


def _every(seconds: float) -> Callable[[str], None]:
    """Return a function that prints a line unless it printed another less than `seconds` s ago."""
    last = -math.inf

    def tell(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            print(line, flush=True)

    return tell


class _Session:
    """Recording session; per episode: set up the scene, arm, publish the instruction, watch, keep or discard."""

    def __init__(
        self,
        args: argparse.Namespace,
        contract: RobotContract,
        graph: GraphRunner,
        dataset: LeRobotWriter | None,
        keys: Keys | None,
        figures: dict[str, Any],
    ) -> None:
        from vla_ros.client.observer import Observer
        from vla_ros.client.operator_client import Operator
        from vla_ros.client.stage import Stage
        from vla_ros.recording.recorder import Recorder

        self._args, self._graph, self._keys, self._figures = args, graph, keys, figures
        self._longest = args.timeout or (LONGEST if keys is None else LONGEST_BY_HAND)
        self._observer = Observer(graph.node)
        self._operator = Operator(graph.node, self._observer)
        self._stage = None if args.real else Stage(graph.node, self._observer, self._operator)
        bags = args.out / "mcap" if "mcap" in _formats(args) else None
        self._recorder: Recorder = Recorder(graph.node, contract, bags=bags, dataset=dataset)
        self._keyboard: KeyboardPolicy | None = None
        self._teleoperation: Teleoperation | None = None
        if keys is not None:
            from vla_ros.policies.keyboard import KeyboardPolicy
            from vla_ros.recording.teleoperation import Teleoperation

            self._keyboard = KeyboardPolicy(contract)
            self._teleoperation = Teleoperation(graph.node, contract, self._keyboard)
            print(f"{self._keyboard.help}\n{MARKS}")

    def close(self) -> None:
        """End teleoperation; the graph keeps running."""
        if self._teleoperation is not None:
            self._teleoperation.close()

    def play(self) -> None:
        from tqdm import tqdm

        seed = self._args.seed
        with tqdm(total=self._args.episodes, unit="episode", desc="record") as progress:
            while self._figures["kept"] < self._args.episodes:
                before = self._figures["kept"]
                mark = self._episode(seed)
                if mark == QUIT:
                    return
                progress.update(self._figures["kept"] - before)
                seed += mark != AGAIN
                if seed - self._args.seed > 4 * self._args.episodes + 10:
                    raise VlaError("four of five episodes cannot be kept; look at the reasons above")

    def _episode(self, seed: int) -> str:
        """Record one episode and return how it ended; see `_watch`."""
        from vla_ros.data.errors import DiskFullError

        sentence = self._args.instruction
        if self._stage is not None:
            sentence = self._stage.set_up(seed, sentence, READY_LIMIT)
        name = f"{time.strftime('%Y%m%d_%H%M%S')}_{seed:06d}"
        self._operator.arm(READY_LIMIT, _every(TELL_AGAIN))
        if self._keys is not None and QUIT in self._keys.read_waiting():
            return QUIT  # other keys typed so far are ignored: there was nothing to drive or to mark yet
        self._observer.begin()
        self._recorder.begin(name, self._args.task)
        kept = False
        try:
            self._operator.say(sentence, READY_LIMIT)
            if self._keys is not None:
                print(f'armed: "{sentence}"')
            mark = self._watch()
            if mark in (AGAIN, QUIT) or (mark == FAIL and not self._args.keep_failures):
                self._figures["failed"] += mark == FAIL
                return mark
            try:
                episode = self._recorder.commit(mark == KEEP)
            except DiskFullError:
                raise
            except VlaError as error:
                print(f"  {name} dropped: {error}")
                self._figures["dropped"] += 1
                return mark
            finally:
                kept = True
            self._figures["kept"] += 1
            self._figures["failed"] += mark == FAIL
            self._figures["steps"] += episode.steps
            self._figures["without_action"] += episode.without_action
            return mark
        finally:
            if not kept:
                self._recorder.drop()

    def _watch(self) -> str:
        """Return how the episode ended, as a key: pressed by the person, else success, else failure on timeout."""
        end = time.monotonic() + self._longest
        while time.monotonic() < end:
            if self._graph.failure:
                raise VlaError(self._graph.failure)
            if self._recorder.failure:
                return KEEP  # the attempt to keep the episode then reports the reason
            if self._keys is None:
                if self._observer.wait(lambda: self._observer.episode.success, timeout=0.1):
                    return KEEP
                continue
            for key in self._keys.read(0.05):
                if key in (KEEP, FAIL, AGAIN, QUIT):
                    return key
                assert self._keyboard is not None
                self._keyboard.press(key)
        return FAIL
