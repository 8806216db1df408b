"""Creates `.venv` with the demo's requirements and the chosen extras; needs no installed ROS 2.

Five steps: system packages, the virtual environment, pinned wheels, a ROS 2 environment at interpreter start, this
package's own messages. Each is skipped when nothing it depends on has changed, so a second run takes under a second.
Standard library only, because this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from system_packages import SetupError, ensure_system_packages, system_needs

REPOSITORY = Path(__file__).resolve().parent.parent
VENV = REPOSITORY / ".venv"
STAMPS = VENV / "vla_ros_stamps.json"
LOGS = VENV / "logs"
BASE = ("build", "ros", "core", "policy")
"""Requirements of the demo; the nodes and the safety layer need no others."""

EXTRAS = ("data", "learning", "models", "words", "console", "dev")
ALL = "all"
TORCH = "policy"
CONSTRAINTS = REPOSITORY / "requirements" / "transitive.txt"
TRANSFORM_MESSAGES = REPOSITORY / "scripts" / "tf2_msgs"
"""Message package of /tf, the only one used by the graph that is on no package index."""

SUPPORTED = ((3, 10), (3, 13))
# Variables of a sourced ROS 2 or of another environment, which would mix two installations.
FOREIGN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH")
QUIET_S = 15.0
# Linux reads 127 bytes of a script's first line, including the interpreter's name.
LONGEST_PATH = 100


def clean_environment() -> dict[str, str]:
    """Return the variables for a child process that must see `.venv` and no other ROS 2."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
    return {**environment, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def run_step(title: str, command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run `command`, showing its latest line on a terminal and a line every few seconds elsewhere.

    Raises:
        SetupError: with the last lines of its output and the path of the full log.
    """
    print(f"--> {title}", flush=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / (re.sub(r"\W+", "_", title.lower()).strip("_") + ".log")
    terminal = sys.stdout.isatty()
    start = shown = time.monotonic()
    tail: deque[str] = deque(maxlen=15)
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment or clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            tail.append(line.rstrip())
            now = time.monotonic()
            if terminal:
                print(f"\r\033[K    {now - start:4.0f} s  {line.strip()[:90]}", end="", flush=True)
            elif now - shown > QUIET_S:
                print(f"    {now - start:4.0f} s  {line.strip()[:90]}", flush=True)
                shown = now
    if terminal:
        print("\r\033[K", end="")
    if process.returncode != 0:
        raise SetupError(f"{title} failed ({log}):\n    " + "\n    ".join(tail))
    print(f"    done in {time.monotonic() - start:.0f} s", flush=True)


def digest(files: Iterable[Path], *words: str) -> str:
    """Return a fingerprint of the names and the contents of `files`, and of `words`."""
    sha = hashlib.sha256("\0".join(words).encode())
    for file in sorted(files):
        sha.update(f"\0{file.relative_to(REPOSITORY)}\0".encode() + file.read_bytes())
    return sha.hexdigest()


def read_stamps() -> dict[str, str]:
    """Return the finished steps of earlier runs: step to fingerprint of its inputs."""
    try:
        return dict(json.loads(STAMPS.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def write_stamp(step: str, fingerprint: str) -> None:
    """Record that `step` is finished."""
    STAMPS.write_text(json.dumps({**read_stamps(), step: fingerprint}, indent=1), encoding="utf-8")


def check_platform(python: tuple[int, int], machine: str) -> None:
    """Raise SetupError on a platform that the ROS 2 wheels do not support."""
    if not SUPPORTED[0] <= python <= SUPPORTED[1]:
        raise SetupError(
            f"this is Python {python[0]}.{python[1]}; the ROS 2 wheels are for 3.10 to 3.13. "
            "Name one of those: make setup PYTHON=python3.12"
        )
    if " " in str(VENV) or len(str(VENV)) > LONGEST_PATH:
        raise SetupError(f"scripts cannot name their interpreter at {VENV}: move to a shorter folder without spaces")
    if (sys.platform, machine) != ("linux", "x86_64"):
        raise SetupError(
            f"the ROS 2 wheels are for Linux on x86-64, this is {sys.platform} on {machine}. "
            "Build the package in a ROS 2 Jazzy workspace instead."
        )


def make_venv(wanted: Path | None) -> None:
    """Create `.venv`, or keep it; recreate it if it was moved or its interpreter is gone."""
    python = wanted or Path(sys.executable)
    if python.is_relative_to(VENV):
        python = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    version = subprocess.run(
        [python, "-c", "import platform; print(platform.python_version())"], text=True, capture_output=True, check=True
    ).stdout.strip()
    stamps = read_stamps()
    place, _, present = stamps.get("venv", "").partition(" ")
    works = place == str(VENV) and (VENV / "bin" / "python").exists()
    if works and (wanted is None or present == version):
        return
    for entry in VENV.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    run_step(f"Making .venv with Python {version}", [str(python), "-m", "venv", str(VENV)])
    write_stamp("venv", f"{VENV} {version}")


def chosen_extras(words: Iterable[str], installed: str) -> tuple[str, ...]:
    """Return the extras to install: those named in `words`, and those `installed` by earlier runs.

    Raises:
        SetupError: when a word is not the name of an extra.
    """
    wanted = {*words, *installed.split()}
    if unknown := sorted(wanted - {*EXTRAS, ALL}):
        raise SetupError(f"there is no extra {', '.join(unknown)}; choose among {', '.join(EXTRAS)}, {ALL}")
    return tuple(extra for extra in EXTRAS if extra in wanted or ALL in wanted)


def pinned(requirement: str) -> str:
    """Return the version of `requirement` pinned in requirements/policy.txt."""
    text = (REPOSITORY / "requirements" / f"{TORCH}.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{requirement}==(\S+)", text, re.MULTILINE)
    if found is None:
        raise SetupError(f"requirements/{TORCH}.txt has no line '{requirement}=='")
    return found[1]


def is_users_torch(installed: str, ours: str) -> bool:
    """Return whether the `installed` torch is neither the pinned one nor the one of an earlier run (`ours`)."""
    return installed not in ("", ours) and installed.partition("+")[0] != pinned("torch")


def installed_torch(python: str) -> str:
    """Return the version of torch in `.venv`, or ""."""
    code = "from importlib.metadata import distributions as d; print(*(one.version for one in d(name='torch')))"
    answer = subprocess.run([python, "-c", code], env=clean_environment(), text=True, capture_output=True, check=True)
    return answer.stdout.strip()


def install_torch(pip: list[str], python: str, index: str) -> bool:
    """Install torch from another `index` if one is named; return whether the installed torch is the user's."""
    stamps, present = read_stamps(), installed_torch(python)
    if index and (stamps.get("torch index") != index or not present):
        environment = {**clean_environment(), "PIP_INDEX_URL": index}
        wanted = ["--no-deps", "--force-reinstall", f"torch=={pinned('torch')}"]
        run_step("Installing torch from the index that was named", [*pip, *wanted], environment)
        present = installed_torch(python)
        write_stamp("torch index", index)
        write_stamp("torch", present)
    return is_users_torch(present, read_stamps().get("torch", ""))


def install_wheels(extras: Iterable[str] = (), torch_index: str = "") -> str:
    """Install every pinned requirement, then correct errors of the ROS 2 wheels. Return the step's fingerprint."""
    chosen = chosen_extras(extras, read_stamps().get("extras", ""))
    index = torch_index or read_stamps().get("torch index", "")
    files = [REPOSITORY / "requirements" / f"{name}.txt" for name in (*BASE, *chosen)]
    fingerprint = digest([*files, CONSTRAINTS, REPOSITORY / "scripts" / "ros_environment.py"], index)
    if read_stamps().get("wheels") == fingerprint:
        return fingerprint
    python = str(VENV / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    kept = install_torch(pip, python, index)
    files = [file for file in files if not (kept and file.stem == TORCH)]
    what = f"Installing pinned wheels{' with ' + ', '.join(chosen) if chosen else ''}"
    run_step(what, [*pip, f"--constraint={CONSTRAINTS}", *(f"--requirement={file}" for file in files)])
    if not kept:
        write_stamp("torch", installed_torch(python))
    code = "from sysconfig import get_path as p; import numpy; print(p('purelib'), p('include'), numpy.get_include())"
    answer = subprocess.run([python, "-c", code], env=clean_environment(), text=True, capture_output=True, check=True)
    site_packages, python_include, numpy_include = answer.stdout.split()
    mend_cmake_exports(VENV / "share", python_include, numpy_include)
    install_site_files(Path(site_packages))
    write_stamp("wheels", fingerprint)
    write_stamp("extras", " ".join(chosen))
    return fingerprint


def mend_cmake_exports(share: Path, python_include: str, numpy_include: str) -> None:
    """Replace the include folders of the wheels' build machine by those of this interpreter."""
    for file in share.glob("*/cmake/*Export.cmake"):
        text = file.read_text(encoding="utf-8")
        mended = re.sub(r'[^";]+/numpy/(_core|core)/include', numpy_include, text)
        mended = re.sub(r'[^";]+/include/python3\.\d+', python_include, mended)
        if mended != text:
            file.write_text(mended, encoding="utf-8")


def install_site_files(site_packages: Path) -> None:
    """Give every interpreter of `.venv` the ROS 2 environment; the file name sorts before the wheels' own."""
    shutil.copyfile(REPOSITORY / "scripts" / "ros_environment.py", site_packages / "_vla_ros_environment.py")
    (site_packages / "_vla_ros_environment.pth").write_text("import _vla_ros_environment\n", encoding="utf-8")


def build_messages(wheels: str, force: bool) -> None:
    """Generate, compile and install this package's messages and those of TF with colcon; `.venv` is the prefix."""
    interfaces = [file for folder in ("msg", "srv", "action") for file in (REPOSITORY / folder).glob("*.*")]
    templates = (REPOSITORY / "scripts").glob("*.in")
    transforms = [file for file in TRANSFORM_MESSAGES.rglob("*") if file.is_file()]
    sources = [REPOSITORY / "CMakeLists.txt", REPOSITORY / "package.xml", *interfaces, *templates, *transforms]
    fingerprint = digest(sources, wheels)
    if read_stamps().get("messages") == fingerprint and not force:
        return
    environment = {**clean_environment(), "AMENT_PREFIX_PATH": str(VENV), "CMAKE_PREFIX_PATH": str(VENV)}
    colcon = [str(VENV / "bin" / "colcon"), "--log-base", str(VENV / "colcon" / "log"), "build"]
    layout = ["--merge-install", "--symlink-install", "--install-base", str(VENV)]
    choice = ["--build-base", str(VENV / "colcon" / "build"), "--paths", str(REPOSITORY), str(TRANSFORM_MESSAGES)]
    arguments = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={VENV / 'bin' / 'python'}"]
    events = ["--event-handlers", "console_direct+", "--cmake-args", *arguments]
    run_step("Building the messages with colcon", [*colcon, *layout, *choice, *events], environment)
    write_stamp("messages", fingerprint)


def main() -> int:
    """Run every outdated step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", type=Path, help="interpreter for .venv (default: keep the present one)")
    parser.add_argument(
        "--extras",
        nargs="*",
        default=[],
        metavar="EXTRA",
        help=f"beyond the demo's needs: {', '.join(EXTRAS)}, or {ALL}; they stay",
    )
    parser.add_argument("--torch-index", default="", metavar="URL", help="package index to take torch from")
    parser.add_argument("--rebuild", action="store_true", help="build the messages even if nothing has changed")
    arguments = parser.parse_args()
    VENV.mkdir(exist_ok=True)
    lock = os.open(VENV, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        wanted = shutil.which(str(arguments.python)) if arguments.python else None
        if arguments.python and wanted is None:
            raise SetupError(f"there is no interpreter '{arguments.python}'")
        check_platform(sys.version_info[:2], platform.machine())
        ensure_system_packages(system_needs(), run_step)
        make_venv(Path(wanted) if wanted else None)
        build_messages(install_wheels(arguments.extras, arguments.torch_index), arguments.rebuild)
    except (SetupError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
