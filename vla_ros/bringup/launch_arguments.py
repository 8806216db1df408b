"""Arguments of the launch files: name, default, description and accepted values.

An argument with a small set of values declares it, and `ros2 launch` rejects any other value with one sentence.
`launch` is imported inside functions: the package also runs on machines without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vla_ros.bringup.launch_files import HARDWARE
from vla_ros.errors import ContractError
from vla_ros.policies.execution.settings import Mode
from vla_ros.ros.graph.description import EXTERNAL, FLAGS, Graph, Value, load_graph, read_flag
from vla_ros.ros.graph.processes import PROCESSES

if TYPE_CHECKING:
    from launch.actions import DeclareLaunchArgument

    from launch import LaunchContext

FLAG_CHOICES = tuple(spelling for word in FLAGS for spelling in dict.fromkeys((word, word.capitalize())))

AUTO = "auto"


@dataclass(frozen=True)
class LaunchArgument:
    """One argument of a launch file; without `choices` it accepts any text."""

    name: str
    default: str
    about: str
    choices: tuple[str, ...] = ()

    def preset(self, default: str) -> LaunchArgument:
        """Return a copy with another default."""
        return replace(self, default=default)


def flag(name: str, about: str, *, default: bool) -> LaunchArgument:
    """Return a boolean argument that accepts all spellings of true and false."""
    return LaunchArgument(name, str(default).lower(), about, FLAG_CHOICES)


GRAPH = LaunchArgument("graph", "config/graph.yaml", "what runs")
SIMULATION = LaunchArgument(
    "simulation",
    "none",
    "what takes the place of the robot; none: a robot; external: a program that is started "
    "elsewhere (docs/simulators.md)",
    ("none", "mujoco", "gazebo", "external"),
)
NAMESPACE = LaunchArgument("namespace", "", "of this arm's topics, below one that is pushed; empty: none")
LOG_LEVEL = LaunchArgument("log_level", "info", "of every node", ("debug", "info", "warn", "error", "fatal"))
PREFLIGHT = flag("preflight", "look for the robot's topics first", default=True)
PARAMS_FILE = LaunchArgument("params_file", "", "ROS 2 parameter file for every node, beside the arguments")
ROBOT = LaunchArgument("robot", "panda", "robot contract: a name in config/robots, or a file")
USE_SIM_TIME = flag("use_sim_time", "true with a simulation", default=False)
LAYOUT = LaunchArgument("layout", "rviz/vla.rviz", "RViz layout")
OUT = LaunchArgument("out", "", "folder of the recording; empty: runs/bags/<date>")

GAZEBO = (
    LaunchArgument("world", "worlds/pick.sdf", "SDF file of the world"),
    flag("headless", "true: no window, cameras render off-screen through EGL", default=False),
    LaunchArgument("render_engine", "ogre2", "headless works with ogre2 alone", ("ogre2", "ogre")),
    LaunchArgument(
        "controllers",
        "gz",
        "gz: Gazebo's own; ros2_control: gz_ros2_control with config/controllers.yaml",
        tuple(sorted(HARDWARE)),
    ),
    LaunchArgument("gz_args", "", "more arguments for gz sim"),
    flag("rviz", "true: RViz as well; its end ends nothing else", default=False),
)

_ABOUT = {
    "robot": ROBOT.about,
    "policy": "folder of a checkpoint, policy file, openpi://host:port, or module:Class (docs/policies.md)",
    "device": "auto, cpu, cuda, cuda:1, ...",
    "execution": "how chunks follow each other; auto: as the policy's file says, else by the measured delay",
    "use_sim_time": "false on a robot; auto: true with a simulation",
    "safety": "parameters of the safety layer: a file",
    "estop_timeout": "s of silence after which an emergency stop button that speaks counts as pressed; 0: it speaks "
    "only when used",
    "arm": "true: arm as soon as the robot allows it; false: a dry run until /vla/arm is called",
    "world": "simulation: what lies on the table",
    "seed": "simulation: decides the scene",
    "instruction": "simulation: task that the scene is prepared for; empty: the scene's own",
    "lockstep": "simulation: time waits for every node",
    "real_time_factor": "simulation: simulated seconds a second",
    "tf": "who publishes the transform tree: any (robot_state_publisher where it is installed, else own), own "
    "(this package), robot_state_publisher, none; auto: any in simulation, none on a robot or with an external "
    "simulator, which mostly do",
    "command_clock": "stamps of commands; auto: arrival for a simulator with a time of its own, else system",
    "trace": "true: record the last minutes of every decision, for vla-ros explain",
    "trace_folder": "of the traces; empty: vla_ros/trace in $ROS_HOME or ~/.ros",
    "console": "true: the operator's page, in a browser (docs/console.md)",
    "console_host": "address that it listens on; any but this machine's own needs a token",
    "console_port": "of the page; its emergency stop has the next one",
    "console_token_file": "file with the token that pages must send",
    "console_page_timeout": "s of silence of the page in command that are an emergency stop; 0: its loss stops nothing",
    "processes": "separate: one process a node; shared: nodes with the same line `process` in the graph share "
    "one, for less memory",
}

_CHOICES = {
    "use_sim_time": (AUTO, *FLAG_CHOICES),
    "arm": ("true", "false"),  # the only argument that lets the arm move has only one spelling
    "execution": tuple(mode.value for mode in Mode),
    "world": ("pick", "tabletop"),
    "tf": (AUTO, "any", "own", "robot_state_publisher", "none"),
    "command_clock": (AUTO, "system", "arrival"),
    "processes": PROCESSES,
}


def graph_arguments(without: Iterable[str] = ()) -> list[LaunchArgument]:
    """Return the arguments of the shipped graph, except those in `without`."""
    return [graph_argument(name, value) for name, value in load_graph().arguments.items() if name not in set(without)]


def graph_argument(name: str, default: Value) -> LaunchArgument:
    """Convert an argument of the graph to one of a launch file."""
    text = str(default).lower() if isinstance(default, bool) else str(default)
    choices = _CHOICES.get(name, FLAG_CHOICES if isinstance(default, bool) else ())
    return LaunchArgument(name, AUTO if name == "use_sim_time" else text, _ABOUT.get(name, "see the graph"), choices)


def graph_texts(graph: Graph, configurations: Mapping[str, str]) -> dict[str, str]:
    """Return a graph's arguments as text: the values passed to the launch, else the defaults.

    Args:
        graph: Possibly a user's graph, with other arguments than the shipped one.
        configurations: Text by name of all arguments passed to the launch.

    Raises:
        ContractError: when an argument was passed that this graph does not have; it would be ignored silently.
    """
    for one in graph_arguments(without=(*graph.arguments, "use_sim_time")):  # the preflight uses that one
        if configurations.get(one.name, one.default) != one.default:
            raise ContractError(
                f"argument {one.name}: this graph does not take it, it has {sorted(graph.arguments)}; add it there"
            )
    declared = [graph_argument(name, value) for name, value in graph.arguments.items()]
    return {one.name: str(configurations.get(one.name, one.default)) for one in declared}


def transform_source(text: str, simulation: str, *, installed: bool) -> str:
    """Return the publisher of the transform tree: "own", "robot_state_publisher" or "none".

    Args:
        text: Value of the argument `tf`.
        simulation: Simulation that replaces the robot; "" for a robot.
        installed: Whether `robot_state_publisher` is installed.

    Raises:
        ContractError: when `robot_state_publisher` is requested but not installed.
    """
    if text == AUTO:
        text = "any" if simulation not in ("", EXTERNAL) else "none"
    if text == "any":
        return "robot_state_publisher" if installed else "own"
    if text == "robot_state_publisher" and not installed:
        raise ContractError(
            "argument tf: robot_state_publisher is not installed: sudo apt install "
            "ros-$ROS_DISTRO-robot-state-publisher, or tf:=own, which does without"
        )
    return text


def graph_values(arguments: Mapping[str, str], simulation: str) -> dict[str, str]:
    """Return the graph's arguments with `use_sim_time: auto` resolved: true with a `simulation`."""
    values = dict(arguments)
    if values.get("use_sim_time", "").lower() == AUTO:
        values["use_sim_time"] = str(bool(simulation)).lower()
    return values


def declare(*arguments: LaunchArgument) -> list[DeclareLaunchArgument]:
    """Return the actions that declare arguments to `ros2 launch`."""
    from launch.actions import DeclareLaunchArgument

    return [
        DeclareLaunchArgument(
            one.name,
            default_value=one.default,
            description=one.about,
            choices=list(one.choices) if one.choices else None,
        )
        for one in arguments
    ]


def given(context: LaunchContext) -> Callable[[str], str]:
    """Return a function that looks up the text of an argument."""
    from launch.substitutions import LaunchConfiguration

    return lambda name: str(LaunchConfiguration(name).perform(context))


def given_flag(context: LaunchContext, name: str) -> bool:
    """Return the value of a boolean argument.

    Raises:
        ContractError: when it is neither true nor false.
    """
    return read_flag(name, given(context)(name))
