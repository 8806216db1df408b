"""Probes of `vla-ros doctor`: each returns one line about the machine, or raises `MissingError`.

Probes that may crash rather than raise (OpenGL drivers, ROS libraries of another installation) run in a child process:
`python -m vla_ros.cli.probes <probe>`.
"""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vla_ros.cli import shared_memory as shared_memory_files
from vla_ros.cli.shadowing import require_own_libraries
from vla_ros.domain_id import VARIABLE, domain_id_of_shell
from vla_ros.errors import UsageError, VlaError

GIGABYTE = 1e9
CHILD_TIMEOUT_S = 120.0
ARROW = " ->"
"""Separates, in a child process's output, what is missing from how to fix it."""

LIBRARIES = ("numpy", "pinocchio", "coal", "pink", "ruckig", "mujoco", "cv2", "safetensors", "torch")
INTERFACES = (
    *(f"vla_ros.msg.{name}" for name in ("ActionChunk", "Instruction", "InstructionRequest")),
    *(f"vla_ros.msg.{name}" for name in ("InstructionStatus", "Observation")),
    *(f"vla_ros.msg.{name}" for name in ("PolicyStatus", "SafetyStatus", "TaskStatus")),
    "vla_ros.srv.ResetScene",
    "vla_ros.action.ExecuteInstruction",
)
# The command itself uses the segment size of config/dds/shared_memory.xml, two nodes of the demo that of
# small_images.xml, and four that of messages.xml.
PARTICIPANTS = 7
SHARED_MEMORY_BYTES = (64 << 20) + 2 * (16 << 20) + 4 * (2 << 20)

# Roughly what four killed processes leave behind: a few do not matter, many exhaust the machine's memory.
LEFT_BYTES = 256e6

SETUP_ADVICE = "run 'make setup' in the source folder, or build the package in a ROS 2 Jazzy workspace and source it"
SCENE = """<mujoco><worldbody>
  <light pos="0 0 3"/><geom type="plane" size="1 1 .1"/><geom type="box" size=".1 .1 .1" pos="0 0 .1" rgba="1 0 0 1"/>
  <camera name="eye" pos="0 -1 1" xyaxes="1 0 0 0 1 1"/>
</worldbody></mujoco>"""


class MissingError(VlaError):
    """Something that this machine lacks.

    Attributes:
        advice: How to fix it.
    """

    def __init__(self, what: str, advice: str) -> None:
        """Create the error; `what` is missing, `advice` says how to get it."""
        super().__init__(what)
        self.advice = advice


def in_child(probe: str, advice: str) -> str:
    """Run one of `CHILD_PROBES` in a child process and return its line.

    Raises:
        MissingError: when it failed, crashed or took longer than `CHILD_TIMEOUT_S`.
    """
    command = [sys.executable, "-m", "vla_ros.cli.probes", probe]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=CHILD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"no answer within {CHILD_TIMEOUT_S:.0f} s", advice) from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        what, arrow, own = lines[-1].partition(ARROW)
        raise MissingError(what, own.strip() if arrow else advice)
    return done.stdout.strip().splitlines()[-1]


def python() -> str:
    """Return the version and path of the interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise MissingError(f"Python {version}, expected 3.10 to 3.13", "make setup PYTHON=python3.12")
    return f"{version}, {sys.executable}"


def compiler() -> str:
    """Return the C++ compiler, needed only to build the messages."""
    found = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if found is None:
        raise MissingError("no C++ compiler: the messages cannot be built again", "sudo apt-get install -y g++")
    answer = subprocess.run([found, "--version"], capture_output=True, text=True, errors="replace", check=True)
    return answer.stdout.splitlines()[0]


def libraries() -> str:
    """Return the versions of the main libraries, once all libraries of the core and the policies have loaded."""
    found = _libraries()
    if isinstance(found, MissingError):
        raise found
    return found


@functools.cache
def _libraries() -> str | MissingError:
    """Load the libraries once, in a child process; return their versions or what is missing."""
    try:
        require_own_libraries()
        return in_child("libraries", "pip install -r requirements/core.txt -r requirements/policy.txt")
    except MissingError as error:
        return error
    except VlaError as error:
        what, _, advice = str(error).rpartition("; ")
        return MissingError(what, advice)


def require_libraries() -> None:
    """Refuse to import libraries here that crashed a child process or could not be imported there.

    Raises:
        MissingError: when the libraries do not load.
    """
    if isinstance(_libraries(), MissingError):
        raise MissingError("not looked for, since the libraries do not load", "see there")


def load_libraries() -> str:
    """Import every library in this process."""
    versions = {name: getattr(importlib.import_module(name), "__version__", "") for name in LIBRARIES}
    return ", ".join(f"{name} {versions[name]}" for name in ("numpy", "pinocchio", "mujoco", "torch"))


def opengl() -> str:
    """Render a tiny scene off-screen; return the driver and the render times."""
    require_libraries()
    return in_child("opengl", "sudo apt-get install -y libegl1 libegl-mesa0 libopengl0 libgl1 libgl1-mesa-dri")


def render_scene() -> str:
    """Render in this process."""
    from vla_ros.envs.mujoco.rendering import CameraRenderer  # first: it selects MuJoCo's back end

    # isort: split
    import mujoco
    from OpenGL import GL

    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    start = time.perf_counter()
    renderer = CameraRenderer(model, 96, 96)
    image = renderer.render(data, "eye")
    first = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(20):
        renderer.render(data, "eye")
    each = (time.perf_counter() - start) / 20
    driver = bytes(GL.glGetString(GL.GL_RENDERER)).decode()
    renderer.close()
    if image.std() < 1.0:
        raise RuntimeError(f"{driver} rendered an empty image")
    backend = os.environ.get("MUJOCO_GL", "window")
    return f"{driver} ({backend}): first frame {first:.2f} s, then {1e3 * each:.1f} ms at 96x96"


def ros() -> str:
    """Return the ROS 2 installation that this interpreter's nodes use."""
    return in_child("ros", SETUP_ADVICE)


def start_node() -> str:
    """Start a node in this process."""
    domain = domain_id_of_shell()
    environment = importlib.import_module("vla_ros.ros.dds.environment_check")  # refuses if loading ROS 2 would crash
    environment.require_loopback()
    import rclpy

    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    node = rclpy.create_node("vla_ros_doctor", context=context, use_global_arguments=False)
    middleware = rclpy.get_rmw_implementation_identifier()
    node.destroy_node()
    rclpy.shutdown(context=context)
    place = Path(rclpy.__file__).parent
    origin = "wheels" if place.is_relative_to(sys.prefix) else "distribution"
    return f"{os.environ.get('ROS_DISTRO', 'jazzy')} from {origin}, {middleware}, {place}"


def messages() -> str:
    """Return how many of this package's interfaces are usable."""
    return in_child("messages", SETUP_ADVICE)


def load_interfaces() -> str:
    """Import each interface in this process, together with its compiled type support."""
    importlib.import_module("vla_ros.nodes")  # as in `start_node`
    for name in INTERFACES:
        module, _, kind = name.rpartition(".")
        getattr(importlib.import_module(module), kind).__import_type_support__()
    return f"{len(INTERFACES)} interfaces, {Path(importlib.import_module('vla_ros.msg').__file__ or '').parent.parent}"


def shared_memory() -> str:
    """Return the free shared memory for images."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        raise MissingError("no /dev/shm: images go through UDP", "mount a tmpfs on /dev/shm")
    try:
        importlib.import_module("vla_ros.nodes")  # refuses if loading ROS 2 would crash
    except VlaError as error:
        # The package checks free space first; its other refusals are reported by the ROS 2 probe. The exception is
        # matched by name because the package that defines it failed to import.
        if type(error).__name__ == "SharedMemoryFullError":
            what, _, advice = str(error).partition("; ")
            raise MissingError(what, advice) from error
    usage = shutil.disk_usage(folder)
    if usage.free < SHARED_MEMORY_BYTES:
        raise MissingError(
            f"/dev/shm has {usage.free / GIGABYTE:.2f} GB free, {PARTICIPANTS} processes take "
            f"{SHARED_MEMORY_BYTES / GIGABYTE:.2f} GB; the images of some go through UDP",
            "start the container with more, e.g. docker run --shm-size=1g, or mount -o remount,size=1g /dev/shm",
        )
    return f"/dev/shm has {usage.free / GIGABYTE:.1f} GB free"


def left_in_shared_memory() -> str:
    """Return the shared memory left behind by dead processes."""
    if not shared_memory_files.FOLDER.is_dir():
        return f"no {shared_memory_files.FOLDER}: there is nothing"
    left = shared_memory_files.find_leftovers(shared_memory_files.FOLDER)
    what = f"{len(left.files)} files of Fast DDS, {left.size / 1e6:.0f} MB, of no living process that I can see"
    if left.size <= LEFT_BYTES:
        return what
    advice = "vla-ros doctor --clean-shared-memory"
    if left.foreign:
        advice += f"; {left.foreign} files are of other users: have them, or root, remove these"
    raise MissingError(f"{what}, in {shared_memory_files.FOLDER}", advice)


def domain() -> str:
    """Return this shell's ROS domain. The demo uses a domain of its own."""
    try:
        return str(domain_id_of_shell())
    except UsageError as error:
        raise MissingError(str(error), f"unset {VARIABLE}, or set it to one of these") from error


def cuda() -> str:
    """Return the GPUs that PyTorch sees."""
    require_libraries()
    import torch

    if not torch.cuda.is_available():
        raise MissingError("PyTorch sees no GPU: policies run on the CPU", "")
    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return ", ".join(f"{p.name} ({p.total_memory / GIGABYTE:.0f} GB)" for p in properties)


def disk() -> str:
    """Return the free disk space for logs and recordings."""
    free = {folder: shutil.disk_usage(folder).free for folder in (Path.cwd(), Path(tempfile.gettempdir()))}
    folder = min(free, key=lambda place: free[place])
    if free[folder] < GIGABYTE:
        raise MissingError(f"{free[folder] / GIGABYTE:.2f} GB free in {folder}", "free 1 GB there")
    return f"{free[folder] / GIGABYTE:.0f} GB free in {folder}"


def checkpoint() -> str:
    """Return the checkpoint that the demo runs."""
    require_libraries()
    from vla_ros.models.checkpoint import WEIGHTS_FILE, load_bundle
    from vla_ros.paths import share_file
    from vla_ros.policies.build import DEFAULT_CHECKPOINT

    advice = "take the whole repository, or train one: vla-ros collect, then vla-ros train"
    try:
        folder = share_file(DEFAULT_CHECKPOINT)
        bundle = load_bundle(folder)
        size = (folder / WEIGHTS_FILE).stat().st_size
    except (OSError, VlaError) as error:
        raise MissingError(str(error), advice) from error
    return f"{folder}: {bundle.model}, {size / 1e6:.1f} MB"


CHILD_PROBES: Mapping[str, Callable[[], str]] = {
    "libraries": load_libraries,
    "opengl": render_scene,
    "ros": start_node,
    "messages": load_interfaces,
}


def main(name: str) -> int:
    """Run one probe in this process; print its line, or on standard error what is missing and how to fix it."""
    try:
        print(CHILD_PROBES[name]())
    except MissingError as error:
        print(f"{error}{ARROW} {error.advice}", file=sys.stderr)
        return 1
    except VlaError as error:
        what, _, advice = str(error).partition("; ")
        print(f"{what}{ARROW} {advice}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
