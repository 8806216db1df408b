"""The law of imports: a room may import only the rooms it is allowed to, and only nodes and cli know ROS 2."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent.parent / "vla_ros"

# Modules directly under vla_ros/ that every room may import.
BASE = {"domain_id", "errors", "extras", "naming", "paths", "priority", "types", "yaml_files"}

# Room to the rooms it may import; what those may import, it may too.
MAY_IMPORT = {
    "actions": set(),
    "robot": {"actions"},
    "safety": {"robot", "actions"},
    "perception": {"robot"},
    "language": set(),
    "processing": {"actions", "robot", "language", "perception"},
    "models": {"actions", "processing"},
    "policies": {"models", "actions", "robot", "language"},
    "data": {"actions", "processing"},
    "training": {"models", "data", "policies", "language", "robot", "envs"},
    "envs": {"robot", "actions", "perception", "data", "language"},
    "evaluation": {"policies", "envs", "safety"},
    "insight": {"models", "policies", "data", "safety"},
    "console": set(),
}
CORE = set(MAY_IMPORT) - {"training"}
# The rooms that know ROS 2, each above those before it; they may use the whole core but training.
MAY_IMPORT["ros"] = CORE
MAY_IMPORT["bringup"] = {"ros"}
MAY_IMPORT["recording"] = {"ros"}
MAY_IMPORT["client"] = {"bringup", "recording"}
MAY_IMPORT["nodes"] = {"client"}
MAY_IMPORT["safety_bench"] = {"nodes"}
MAY_IMPORT["cli"] = set(MAY_IMPORT)

KNOW_ROS = {"ros", "bringup", "recording", "client", "nodes", "safety_bench", "cli"}
WITHOUT_TORCH = BASE | {"actions", "robot", "safety"}


def allowed_rooms(room):
    """Return the rooms that `room` may import, itself among them."""
    if room in BASE:
        return set()
    allowed, waiting = {room}, [*MAY_IMPORT[room]]
    while waiting:
        other = waiting.pop()
        if other not in allowed:
            allowed.add(other)
            waiting += MAY_IMPORT[other]
    return allowed


def imported_modules(source, package):
    """Return the absolute names of all modules that a source imports, anywhere in it.

    `from a import b` counts as `a.b`, since b may be a module; relative imports are resolved against `package`; calls
    of `import_module("...")` and `__import__("...")` with a literal count too.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called.endswith(("import_module", "__import__")) and isinstance(node.args[0].value, str):
                names.add(node.args[0].value)
    return names


def is_ros(module):
    """Tell whether a module comes with ROS 2 or is generated from messages."""
    top, _, rest = module.partition(".")
    if top == "vla_ros":
        return rest.split(".")[0] in {"msg", "srv", "action"}
    return (
        top.startswith(("rclpy", "launch", "ament_", "rosidl", "tf2_", "rosbag2"))
        or top.endswith(("_msgs", "_interfaces", "_srvs"))
        or top in {"cv_bridge", "message_filters"}
    )


def violations(source, place):
    """Return a sentence for every import of `source` that the law forbids.

    Args:
        source: Python source text.
        place: Its path under vla_ros/, such as "safety/filter.py".
    """
    room = Path(place).parts[0].removesuffix(".py")
    if room == "__init__":
        room, allowed = "the package", set(MAY_IMPORT) - KNOW_ROS  # its public names, for type checkers alone
    elif room in BASE or room in MAY_IMPORT:
        allowed = allowed_rooms(room)
    else:
        return [f"{place}: '{room}' is no room; add it to the table of this test and to the architecture page"]
    package = ".".join(["vla_ros", *Path(place).parent.parts])
    found = []
    for module in sorted(imported_modules(source, package)):
        parts = module.split(".")
        if is_ros(module):
            if room not in KNOW_ROS:
                found.append(f"{place} imports {module}: only {sorted(KNOW_ROS)} know ROS 2")
        elif parts[0] == "vla_ros" and len(parts) > 1:
            if parts[1] in MAY_IMPORT and parts[1] not in allowed:
                found.append(f"{place} imports {module}: {room} may import {sorted(allowed - {room})}")
        elif parts[0] == "torch" and room in WITHOUT_TORCH:
            found.append(f"{place} imports {module}: {room} must work without torch")
    return found


def sources():
    return sorted(file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("place", sources(), ids=str)
def test_file_obeys_the_law(place):
    assert violations((PACKAGE / place).read_text(encoding="utf-8"), str(place)) == []


def test_there_are_files_to_look_at():
    assert {"safety", "robot", "nodes", "cli"} <= {place.parts[0] for place in sources()}


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("types.py", "import rclpy"),
        ("errors.py", "from vla_ros.actions import specification"),
        ("actions/a.py", "import torch.nn as nn"),
        ("actions/a.py", "from vla_ros.robot.contract import load_contract"),
        ("robot/a.py", "def late():\n    from sensor_msgs.msg import Image"),
        ("safety/a.py", "from vla_ros import policies"),
        ("safety/a.py", "from ..envs import registry"),
        ("safety/a.py", "from vla_ros.msg import SafetyStatus"),
        ("safety/a.py", "if TYPE_CHECKING:\n    import torch"),
        ("perception/a.py", "import vla_ros.envs.mujoco.workcell"),
        ("language/a.py", "from builtin_interfaces.msg import Time"),
        ("models/a.py", "from vla_ros.policies import build"),
        ("processing/a.py", "from vla_ros.models import batch"),
        ("processing/a.py", "from vla_ros.data import step"),
        ("policies/a.py", "from importlib import import_module\nimport_module('vla_ros.envs.mujoco.workcell')"),
        ("training/a.py", "__import__('rclpy')"),
        ("envs/deep/a.py", "from ...policies import local"),
        ("evaluation/a.py", "from vla_ros.training import loop"),
        ("insight/a.py", "from vla_ros import srv"),
        ("console/a.py", "import rclpy"),
        ("console/a.py", "from vla_ros.nodes.console.graph import ConsoleGraph"),
        ("nodes/a.py", "from vla_ros.training.loop import train"),
        ("nodes/a.py", "import vla_ros.cli.main"),
        ("__init__.py", "from vla_ros.nodes import qos"),
        ("helpers/a.py", "import math"),
    ],
)
def test_a_breach_is_found(place, source):
    assert len(violations(source, place)) == 1


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("types.py", "import numpy\nfrom vla_ros.errors import VlaError"),
        ("safety/a.py", "from vla_ros.robot.contract import x\nfrom vla_ros.types import Pose\nimport ruckig, coal"),
        ("safety/a.py", "from . import limits\nfrom .limits import Limits\nfrom ..errors import VlaError"),
        ("evaluation/a.py", "from vla_ros.actions.rotations import x\nimport torch"),
        ("processing/a.py", "from vla_ros.language.tokenizer import x\nimport torch"),
        ("data/a.py", "from vla_ros.processing.normalizer import Normalizer"),
        ("nodes/a.py", "import rclpy\nfrom vla_ros.msg import Observation\nfrom vla_ros.safety import filter"),
        (
            "console/a.py",
            "from aiohttp import web\nfrom vla_ros.errors import VlaError\nfrom vla_ros.console import link",
        ),
        ("nodes/a.py", "from vla_ros.console.server import ConsoleServer"),
        ("cli/a.py", "from vla_ros.training import loop\nimport rclpy"),
        ("models/a.py", "import torch\ntext = 'import rclpy'"),
    ],
)
def test_what_is_allowed_passes(place, source):
    assert violations(source, place) == []


BLOCKED_IMPORT = """
import importlib, sys
from importlib.abc import MetaPathFinder
sys.path.insert(0, sys.argv[1])

class Block(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        generated = ("vla_ros.msg", "vla_ros.srv", "vla_ros.action")
        if top == "rclpy" or top.endswith(("_msgs", "_interfaces")) or name in generated:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def import_with_ros_blocked(root, modules):
    command = [sys.executable, "-c", BLOCKED_IMPORT, str(root), *modules]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_core_imports_with_ros_blocked():
    core = [place for place in sources() if place.parts[0].removesuffix(".py") not in KNOW_ROS]
    names = [".".join(["vla_ros", *place.with_suffix("").parts]).removesuffix(".__init__") for place in core]
    done = import_with_ros_blocked(PACKAGE.parent, names)
    assert done.returncode == 0, done.stderr


def test_the_block_blocks(tmp_path):
    (tmp_path / "knows_ros.py").write_text("import std_msgs.msg")
    done = import_with_ros_blocked(tmp_path, ["knows_ros"])
    assert done.returncode != 0
    assert "std_msgs is blocked" in done.stderr
