"""What the shell hands to `vla-ros`: homes, folders, middleware, libraries, domains, locales. One sentence each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vla_ros.cli import shadowing
from vla_ros.cli.main import main

ROOT = Path(__file__).parents[3]
LIMIT = 120.0
ros = pytest.mark.skipif(not os.environ.get("AMENT_PREFIX_PATH"), reason="needs ROS 2")


def vla_ros(*words: str, folder: Path, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`; a variable of None is not set."""
    merged = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-m", "vla_ros.cli.main", *words],
        cwd=folder,
        env={name: value for name, value in merged.items() if value is not None},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT,
        check=False,
    )


def last_json(done: subprocess.CompletedProcess[str]) -> dict:
    return json.loads(done.stdout.splitlines()[-1])


PROGRAM = "import os, vla_ros.nodes, rclpy; rclpy.init(); print(os.environ.get('ROS_LOG_DIR', 'default'))"


def load_ros(**environment: str | None) -> subprocess.CompletedProcess[str]:
    merged = {**os.environ, "PYTHONPATH": str(ROOT), "ROS_LOG_DIR": None, "ROS_HOME": None, **environment}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={name: value for name, value in merged.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@ros
@pytest.mark.parametrize("home", [None, "", "/proc/nowhere"])
def test_ros_logs_find_a_folder_without_a_home(home, tmp_path):
    done = load_ros(HOME=home, TMPDIR=str(tmp_path), XDG_RUNTIME_DIR=None)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.is_relative_to(tmp_path)
    assert folder.parent.stat().st_mode & 0o777 == 0o700


@ros
def test_a_log_folder_of_ones_own_that_is_none_is_named():
    done = load_ros(ROS_LOG_DIR="/proc/nowhere")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "ROS_LOG_DIR is /proc/nowhere" in done.stderr
    assert "unset it" in done.stderr


@ros
def test_a_home_that_can_be_written_to_is_used(tmp_path):
    done = load_ros(HOME=str(tmp_path))
    assert done.stdout.strip() == "default"
    assert (tmp_path / ".ros" / "log").is_dir()


@ros
@pytest.mark.parametrize("variable", ["RMW_IMPLEMENTATION", "RCL_ASSERT_RMW_ID_MATCHES"])
def test_a_middleware_that_is_not_installed_is_named(variable, tmp_path):
    done = vla_ros("demo", "--json", folder=tmp_path, **{variable: "rmw_of_another"})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert last_json(done)["success"] is False
    assert last_json(done)["error"].startswith(f"{variable} names rmw_of_another, here is rmw_")
    assert last_json(done)["error"].endswith("unset it")


@ros
def test_the_doctor_names_a_middleware_and_a_domain_that_are_none(tmp_path):
    done = vla_ros("doctor", "--json", folder=tmp_path, RMW_IMPLEMENTATION="rmw_of_another", ROS_DOMAIN_ID="500")
    assert done.returncode == 2
    found = {entry["name"]: entry for entry in last_json(done)["checks"]}
    assert found["ROS domain"]["value"] == "ROS_DOMAIN_ID is '500', expected 0 to 232"
    assert found["ROS 2"]["state"] == "FAIL"
    done = vla_ros("doctor", "--json", folder=tmp_path, RMW_IMPLEMENTATION="rmw_of_another")
    assert done.returncode == 1
    found = {entry["name"]: entry for entry in last_json(done)["checks"]}
    assert "RMW_IMPLEMENTATION names rmw_of_another, here is" in found["ROS 2"]["value"]
    assert "make setup" not in found["ROS 2"]["advice"]
    for name in ("shared memory", "checkpoint"):
        assert "RMW_IMPLEMENTATION" not in found[name]["value"]


@pytest.mark.parametrize("library", ["numpy", "torch", "mujoco"])
def test_the_doctor_survives_another_library(library, tmp_path):
    package = tmp_path / "site" / library
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '1.0'\n", encoding="utf-8")
    path = os.pathsep.join([str(package.parent), str(ROOT)])
    done = vla_ros("doctor", "--json", folder=tmp_path, PYTHONPATH=path)
    assert done.returncode == 1
    found = {entry["name"]: entry for entry in last_json(done)["checks"]}
    assert found["libraries"]["state"] == "FAIL"
    assert str(package) in found["libraries"]["value"]
    assert "PYTHONPATH" in found["libraries"]["advice"]
    assert found["checkpoint"]["state"] == "FAIL"
    for name in ("OpenGL", "checkpoint", "CUDA"):
        assert found[name]["value"] == "not looked for, since the libraries do not load"
    done = vla_ros("collect", "--episodes", "1", "--json", folder=tmp_path, PYTHONPATH=path)
    assert done.returncode == 1
    assert str(package) in last_json(done)["error"]
    assert len(done.stderr.strip().splitlines()) == 1


def test_another_ros_on_the_path_is_named(tmp_path, monkeypatch):
    package = tmp_path / "rclpy"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('for Python 3.8')\n", encoding="utf-8")
    own = tmp_path / "own"
    (own / "rclpy").mkdir(parents=True)
    monkeypatch.setattr(shadowing.sysconfig, "get_path", lambda kind: str(own))
    monkeypatch.setattr(shadowing.importlib.util, "find_spec", _spec_of(package))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert shadowing.shadowed() == {"rclpy": package}
    with pytest.raises(shadowing.VlaError, match=r"rclpy in .*for Python 3.8.*unset PYTHONPATH"):
        shadowing.require_own_libraries()


def _spec_of(package):
    spec = type("spec", (), {"origin": str(package / "__init__.py")})
    return lambda name: spec if name == "rclpy" else None


def test_libraries_of_this_environment_are_no_others():
    assert shadowing.shadowed() == {}


@pytest.mark.parametrize("word", ["233", "500", "-1", "one", "1.0"])
@pytest.mark.parametrize("command", ["demo", "record"])
def test_a_domain_beyond_the_ports_is_wrong_usage(command, word, capsys):
    assert main([command, f"--domain={word}"]) == 2
    assert "expected 0 to 232" in capsys.readouterr().err


@ros
def test_a_node_names_a_domain_that_is_none(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "vla_ros.nodes.instruction_node"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "ROS_DOMAIN_ID": "500"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "ROS_DOMAIN_ID is '500', expected 0 to 232"


COMMANDS = [
    "demo",
    "record --episodes 1",
    "collect --episodes 1 --processes 1",
    "eval --episodes 1 --processes 1",
    "train --steps 1",
    "bench safety --only table",
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", ["a_file", "a_file/below"])
def test_a_file_in_the_place_of_the_folder_is_wrong_usage(command, place, tmp_path, capsys):
    (tmp_path / "a_file").touch()
    assert main([*command.split(), "--out", str(tmp_path / place)]) == 2
    shown = capsys.readouterr().err
    assert "a_file is a file, expected a folder; choose another --out" in shown
    assert len(shown.strip().splitlines()) == 1


def read_only(folder: Path) -> list[str]:
    """Return the words that run a command with a folder mounted read-only, in namespaces of its own; else skip."""
    shell = f'mount -t tmpfs -o ro tmpfs "{folder}" && cd "{folder}" && exec "$@"'
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell, "sh"]
    try:
        possible = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        possible = False
    if not possible:
        pytest.skip("needs unshare and user namespaces")
    return words


@pytest.mark.parametrize("command", ["demo", "collect --episodes 1 --processes 1"])
def test_a_read_only_folder_is_named(command, tmp_path):
    done = subprocess.run(
        [*read_only(tmp_path), sys.executable, "-m", "vla_ros.cli.main", *command.split(), "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 2
    assert "cannot be written to; choose another --out" in last_json(done)["error"]
    assert len(done.stderr.strip().splitlines()) == 1


@ros
def test_a_machine_without_loopback_is_told_so():
    program = "from vla_ros.bringup.runner import RosLink; RosLink('alone', 3)"
    words = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs unshare and user namespaces")
    done = subprocess.run(
        [*words, sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 1
    assert "loopback" in done.stderr
    assert "ip link set lo up" in done.stderr
    assert "Traceback" not in done.stderr


def test_umlauts_are_taken_in_the_c_locale(tmp_path):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = vla_ros("eval", "--robot", "Würfel", folder=tmp_path, **plain)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert r"no robot contract 'W\xfcrfel'" in done.stderr


def test_bytes_that_are_not_utf_8_are_wrong_usage(capsys):
    assert main(["say", "W\udcfcrfel"]) == 2
    assert "not UTF-8" in capsys.readouterr().err


def test_a_folder_that_has_been_removed_is_one_sentence(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["collect"]) == 2
    assert capsys.readouterr().err == (
        "vla-ros collect: the folder that this is started in has been removed; change to another one\n"
    )
