"""`vla-ros demo`: run one instruction on the whole graph in the simulated workcell, and record a video of it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.cli.arguments import domain, execution_mode, natural, path, positive, positive_int
from vla_ros.cli.browser import require_console, show_page
from vla_ros.cli.failures import EXPECTED, explain, require_output
from vla_ros.errors import CheckpointError, ContractError, UsageError

if TYPE_CHECKING:
    from vla_ros.bringup.runner import GraphRunner
    from vla_ros.cli.film import Film
    from vla_ros.client.observer import Observer
    from vla_ros.client.operator_client import Operator
    from vla_ros.robot.contract import RobotContract

HELP = "let a policy do a task in the simulated cell"

EXAMPLES = (
    'vla-ros demo --instruction "pick up the red cube"',
    "vla-ros demo --world tabletop --seed 3",
    "vla-ros demo --keep-running",
    "vla-ros demo --open",
    "vla-ros demo --robot so101",
)

DEFAULT_SEED = 7
CAMERA = "front"
CONSOLE_PORT = 8060
READY_TIMEOUT = 30.0  # s, for the first verdict, for the first chunk, and for arming
SETTLE_TIME = 0.5  # s without a new chunk
EPILOGUE = 0.7  # s of video after success
LINE_PERIOD = 1.0  # s between progress lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seed", type=natural, default=DEFAULT_SEED, help="decides the scene (default %(default)s)")
    parser.add_argument(
        "--instruction",
        default="",
        help='what to ask for, e.g. "pick up the red cube"; by default what the scene suggests',
    )
    parser.add_argument(
        "--world",
        choices=["pick", "tabletop"],
        default="pick",
        help="objects to pick up; or, tabletop, to place, push and stack as well (default %(default)s)",
    )
    parser.add_argument(
        "--policy",
        help="folder, policy file, openpi://host:port or module:Class "
        "(default: the one that ships for the world; where none ships "
        "for the robot, you drive it with the keyboard, and without a terminal it holds)",
    )
    parser.add_argument(
        "--execution",
        type=execution_mode,
        default="auto",
        help="how chunks follow each other: auto, "
        "synchronous, asynchronous, ensembling, real_time_chunking (default: %(default)s)",
    )
    parser.add_argument("--robot", default="panda", help="robot contract: a name or a YAML file")
    parser.add_argument("--timeout", type=positive, default=60.0, help="s to do it in (default %(default)s)")
    parser.add_argument(
        "--simulation",
        choices=["mujoco", "external"],
        default="mujoco",
        help="external: "
        "your own program is the simulator (docs/simulators.md), in the domain of --domain or of the "
        "shell",
    )
    parser.add_argument("--lockstep", action="store_true", help="simulation time waits for everyone: repeatable")
    parser.add_argument("--view", choices=["text", "off"], default="text", help="what to show on the way")
    parser.add_argument("--keep-running", action="store_true", help="leave the graph up for further instructions")
    parser.add_argument(
        "--processes",
        choices=["separate", "shared"],
        default="separate",
        help="shared: simulator and safety node alone, the others in one process (default %(default)s)",
    )
    parser.add_argument("--trace", action="store_true", help="record the decision trace, for vla-ros explain")
    parser.add_argument(
        "--open",
        type=positive_int,
        nargs="?",
        const=CONSOLE_PORT,
        metavar="PORT",
        help=f"the operator's page, in this machine's browser, and on PORT (default {CONSOLE_PORT}); "
        "the graph stays up as with --keep-running",
    )
    parser.add_argument("--domain", type=domain, help="ROS domain id (default: one that nobody uses)")
    parser.add_argument("--out", type=path, default=Path("runs"), help="folder of films, logs and graph.json")
    parser.add_argument("--json", action="store_true", help="the figures alone on standard output")


def run(args: argparse.Namespace) -> int:
    """Run the demo; return 0 if the task succeeded, or if an arm without a policy was held or driven.

    Raises:
        UsageError: when an option names something that does not exist.
    """
    from vla_ros.policies.build import shipped_policy
    from vla_ros.policies.registry import find_policy
    from vla_ros.robot.contract import load_contract

    def say(line: str) -> None:
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)

    try:
        contract = load_contract(args.robot)
        args.policy = args.policy or shipped_policy(args.world, contract)
        if args.policy is not None:
            find_policy(args.policy)
    except (ContractError, CheckpointError) as error:
        raise UsageError(str(error)) from error
    if args.open is not None:
        require_console()
    require_output(args.out)
    figures: dict[str, Any] = {"success": False, "instruction": args.instruction, "seed": args.seed}
    try:
        _play(args, contract, figures, say)
    except EXPECTED as error:
        sentence = explain(error)
        figures["error"] = sentence.splitlines()[0]
        say(f"failed: {sentence}")
    except KeyboardInterrupt:
        figures.setdefault("error", "interrupted")
        say("interrupted: everything has ended")
    print(json.dumps(figures), flush=True)
    return 0 if figures["success"] or figures.get("completed") else 1


def _play(
    args: argparse.Namespace, contract: RobotContract, figures: dict[str, Any], say: Callable[[str], None]
) -> None:
    from vla_ros.bringup.runner import GraphRunner
    from vla_ros.client.observer import Observer
    from vla_ros.client.operator_client import Operator
    from vla_ros.policies.build import robot_for
    from vla_ros.ros.graph.description import load_graph

    graph = load_graph()
    wanted = ("robot", "world", "seed", "instruction", "lockstep", "processes", "execution")
    arguments = {name: getattr(args, name) for name in wanted} | {"trace": args.trace}
    if args.open is not None:
        arguments |= {"console": True, "console_port": args.open}
    if args.policy is None:
        graph = graph.without("policy_node")
    else:
        arguments |= {"policy": args.policy, "robot": robot_for(args.policy, args.robot, args.out / "robot")}
    say(f"starting the graph (seed {args.seed}); logs in {args.out / 'log'}")
    with ExitStack() as stack:
        runner = stack.enter_context(
            GraphRunner(
                arguments,
                graph=graph,
                simulation=args.simulation,
                folder=args.out,
                domain=args.domain,
                disarms=True,
                progress=say,
            )
        )
        if args.open is not None:
            say(f"the operator's page: {show_page(f'http://127.0.0.1:{args.open}/')}")
        observer = Observer(runner.node, _filmed(contract))
        operator = Operator(runner.node, observer)
        if args.simulation == "external":
            from vla_ros.client.stage import Stage

            args.instruction = Stage(runner.node, observer, operator).set_up(args.seed, args.instruction, READY_TIMEOUT)
        if args.policy is None:
            from vla_ros.cli.demo_by_hand import EpisodeByHand

            episode: Episode = stack.enter_context(EpisodeByHand(args, runner, observer, operator, say, contract))
        else:
            episode = Episode(args, runner, observer, operator, say)
        try:
            episode.play()
        finally:
            figures.update(episode.figures())
        _summarise(args, figures, observer, say)
        if args.keep_running or args.open is not None:
            _stay(runner, observer, say)


def _filmed(contract: RobotContract) -> str:
    """Return the topic of the camera whose images make up the video."""
    names = [camera.name for camera in contract.cameras]
    return contract.camera(CAMERA if CAMERA in names else names[0]).topic


class Episode:
    """One instruction, from its publication to the success checker's verdict, recorded as a video."""

    def __init__(
        self,
        args: argparse.Namespace,
        graph: GraphRunner,
        observer: Observer,
        operator: Operator,
        say: Callable[[str], None],
    ) -> None:
        self._args, self._graph, self._observer, self._operator, self._say = args, graph, observer, operator, say
        self.instruction = args.instruction
        name = f"{datetime.now():%Y%m%d_%H%M%S}_seed{args.seed}.mp4"
        self.video = args.out / "demo" / name

    def figures(self) -> dict[str, Any]:
        """Return the metrics of the episode."""
        return {
            **self._observer.figures(self._args.lockstep),
            "instruction": self.instruction,
            "video": str(self.video) if self.video.exists() else None,
            "seed": self._args.seed,
        }

    def play(self) -> None:
        """Publish the instruction, arm, and watch.

        Raises:
            GraphError: when a part of the graph fails, or nothing happens within `READY_TIMEOUT`.
            InstructionError: when the graph or the policy rejects the instruction.
        """
        from vla_ros.cli.film import Film

        observer = self._observer
        self._wait(lambda: bool(observer.task.instruction), "verdict of the success checker on /vla/task_status")
        self.instruction = self.instruction or observer.task.instruction
        self._say(f"instruction: {self.instruction}")
        observer.begin()
        number = self._operator.say(self.instruction, READY_TIMEOUT)
        self._wait(lambda: observer.episode.chunks > 0 or self._refused(number), "chunk of the policy")
        if self._refused(number):
            from vla_ros.errors import InstructionError

            raise InstructionError(observer.policy.sentence)
        if self._args.lockstep:
            self._settle()
        self._operator.arm(READY_TIMEOUT)
        self._say("armed")
        self.began()
        with Film(self.video, rate_hz=10.0) as film:
            self._watch(film)

    def began(self) -> None:
        """Hook called once the robot is armed; does nothing here."""

    def ended(self) -> bool:
        """Hook, polled: return whether the episode ended for a reason other than success or timeout."""
        return False

    def _settle(self) -> None:
        """Wait until no chunk is in flight, so that the first instant of lockstep is the same in every run."""
        count = -1
        while count != (count := self._observer.episode.chunks):
            time.sleep(SETTLE_TIME)

    def _refused(self, number: int) -> bool:
        policy = self._observer.policy
        return bool(policy.state == policy.FAULT and policy.instruction_sequence == number)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        from vla_ros.ros.transitions import GraphError

        deadline = time.monotonic() + READY_TIMEOUT
        while not self._observer.wait(condition, timeout=0.2):
            if self._graph.failure:
                raise GraphError(self._graph.failure)
            if time.monotonic() > deadline:
                raise GraphError(f"no {what} within {READY_TIMEOUT:.0f} s")

    def _watch(self, film: Film) -> None:
        from vla_ros.ros.transitions import GraphError

        observer, began = self._observer, time.monotonic()
        observer.images()  # discard earlier images
        end, line_due = began + self._args.timeout, 0.0
        done: float | None = None
        while time.monotonic() < (end if done is None else done + EPILOGUE):
            observer.wait(lambda: observer.episode.success, timeout=0.05)
            if self.ended():
                return
            if done is None and observer.episode.success:
                done = time.monotonic()
            elif done is not None:
                time.sleep(0.05)
            self._film(film)
            if self._graph.failure:
                raise GraphError(self._graph.failure)
            if self._args.view == "text" and time.monotonic() > line_due:
                line_due = time.monotonic() + LINE_PERIOD
                self._say(f"  {observer.episode.seconds:5.1f} s  {self._state()}  {observer.task.detail}")

    def _film(self, film: Film) -> None:
        from vla_ros.cli.film import annotate

        observer = self._observer
        state = f"{observer.episode.clock:.1f} s   {self._state()}   {observer.task.detail}"
        for image in observer.images():
            film.add(annotate(image, self.instruction, state, True if observer.episode.success else None))

    def _state(self) -> str:
        safety = self._observer.safety
        reason = "" if safety.reason in ("", "ok") else f" ({safety.reason})"
        return f"{safety.state_name}{reason}"


def _summarise(
    args: argparse.Namespace, figures: dict[str, Any], observer: Observer, say: Callable[[str], None]
) -> None:
    verdict = "success" if figures["success"] else figures.get("driven_by", "no success")
    say(f"{verdict}: '{figures['instruction']}' in {figures['episode_s']} s of simulation; {observer.task.detail}")
    age, late = figures["observation_age_ms_p50"], figures["observation_age_ms_p99"]
    say(f"  {figures['steps']} chunks, {figures['policy_ms_p50']} ms each; observations {age} ms old (99 %: {late})")
    say(f"  {figures['command_rate_hz']} commands a second, {figures['missed_ticks']} ticks missed")
    path = " > ".join(
        f"{state}" + (f" ({reason})" if reason not in ("", "ok") else "")
        for state, reason in observer.episode.states[:12]
    )
    say(f"  safety layer: {path}")
    if args.trace:
        say(f"  why it moved as it did: vla-ros explain {args.out / 'trace'}")
    if figures["video"]:
        say(f"  film {figures['video']}, stills {Path(figures['video']).with_suffix('.png')}")


def _stay(graph: GraphRunner, observer: Observer, say: Callable[[str], None]) -> None:
    """Keep the graph up and print its state, until Ctrl-C or until it fails."""
    say("the graph stays up; Ctrl-C ends it. In another terminal:")
    say('  vla-ros say "pick up the blue ball"      or, with ros2cli:')
    say(
        f"  ROS_DOMAIN_ID={graph.domain} ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ros2 topic pub --once "
        "/vla/instruction std_msgs/msg/String \"{data: 'stop'}\""
    )
    told = ""
    while not graph.failure:
        observer.wait(lambda: False, timeout=0.2)
        safety, task = observer.safety, observer.task
        line = f"{safety.state_name}: {safety.sentence}; '{observer.instruction.text}': success {task.success}"
        if line != told:
            told = line
            say(f"  {line}")
    say(graph.failure)
