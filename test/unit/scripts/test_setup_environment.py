"""The parts of `make setup` that decide something; the whole of it is run by every `make test`."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import ros_environment
import setup_environment
import system_packages
from system_packages import SetupError, SystemNeed, ensure_system_packages


def need(name, present, *packages):
    return SystemNeed(name, lambda: present, packages)


class TestSystemPackages:
    def test_nothing_is_run_when_nothing_is_missing(self):
        ensure_system_packages([need("a", True, "pa")], run=lambda *_: pytest.fail("ran"), prefix=lambda: [])

    def test_missing_ones_are_installed_where_allowed(self):
        commands, there = [], []

        def run(title, command):
            commands.append((title, command))
            there.append(True)

        needs = [SystemNeed("a compiler", lambda: bool(there), ("g++",)), need("make", True, "make")]
        ensure_system_packages(needs, run, prefix=lambda: ["sudo", "-n"])
        (_, update), (title, install) = commands
        assert update[-1] == "update"
        assert title == "Installing a compiler"
        assert install[:2] == ["sudo", "-n"]
        assert install[-1] == "g++"
        assert "make" not in install

    def test_missing_ones_are_named_with_the_command_where_not_allowed(self):
        needs = [need("a compiler", False, "g++"), need("OpenGL", False, "libegl1", "libgl1")]
        with pytest.raises(SetupError) as caught:
            ensure_system_packages(needs, run=lambda *_: pytest.fail("ran"), prefix=lambda: None)
        assert "lacks a compiler, OpenGL" in str(caught.value)
        assert "sudo apt-get install -y g++ libegl1 libgl1" in str(caught.value)

    def test_an_installation_that_brings_nothing_is_not_believed(self):
        with pytest.raises(SetupError, match="still missing"):
            ensure_system_packages([need("a", False, "pa")], run=lambda *_: None, prefix=lambda: [])

    def test_this_machine_has_everything(self):
        assert [n.name for n in system_packages.system_needs() if not n.present()] == []

    def test_no_apt_means_no_administrator(self, monkeypatch):
        monkeypatch.setattr(system_packages.shutil, "which", lambda _: None)
        assert system_packages.administrator_prefix() is None


class TestPlatform:
    @pytest.mark.parametrize("python", [(3, 10), (3, 11), (3, 12), (3, 13)])
    def test_supported(self, python):
        setup_environment.check_platform(python, "x86_64")

    @pytest.mark.parametrize("python", [(3, 9), (3, 14)])
    def test_other_python(self, python):
        with pytest.raises(SetupError, match=r"make setup PYTHON=python3\.12"):
            setup_environment.check_platform(python, "x86_64")

    def test_other_machine(self):
        with pytest.raises(SetupError, match="aarch64"):
            setup_environment.check_platform((3, 12), "aarch64")

    def test_folder_that_scripts_cannot_name(self, monkeypatch):
        monkeypatch.setattr(setup_environment, "VENV", Path("/home/me/my robots/.venv"))
        with pytest.raises(SetupError, match="without spaces"):
            setup_environment.check_platform((3, 12), "x86_64")


class TestSteps:
    @pytest.fixture(autouse=True)
    def folders(self, tmp_path, monkeypatch):
        monkeypatch.setattr(setup_environment, "REPOSITORY", tmp_path)
        monkeypatch.setattr(setup_environment, "VENV", tmp_path / ".venv")
        monkeypatch.setattr(setup_environment, "LOGS", tmp_path / ".venv" / "logs")
        monkeypatch.setattr(setup_environment, "STAMPS", tmp_path / ".venv" / "stamps.json")
        (tmp_path / ".venv").mkdir()

    def test_failure_shows_the_end_of_the_output_and_the_log(self):
        command = [sys.executable, "-c", "print('first'); print('the reason'); raise SystemExit(3)"]
        with pytest.raises(SetupError, match=r"(?s)Trying it failed.*trying_it\.log.*the reason"):
            setup_environment.run_step("Trying it", command)
        assert "first" in (setup_environment.LOGS / "trying_it.log").read_text()

    def test_success_is_quiet(self, capsys):
        setup_environment.run_step("Trying it", [sys.executable, "-c", "print('chatter')"])
        shown = capsys.readouterr().out
        assert "Trying it" in shown
        assert "chatter" not in shown

    def test_children_see_no_other_ros(self, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", "/opt/ros/jazzy/lib/python3.12/site-packages")
        monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
        environment = setup_environment.clean_environment()
        assert "PYTHONPATH" not in environment
        assert "AMENT_PREFIX_PATH" not in environment
        assert environment["PATH"].startswith(str(setup_environment.VENV / "bin"))

    def test_fingerprint_follows_content_name_and_words(self, tmp_path):
        file = tmp_path / "a.msg"
        file.write_text("one")
        first = setup_environment.digest([file], "x")
        assert setup_environment.digest([file], "x") == first
        assert setup_environment.digest([file], "y") != first
        file.write_text("two")
        assert setup_environment.digest([file], "x") != first
        file.write_text("one")
        file.rename(tmp_path / "b.msg")
        assert setup_environment.digest([tmp_path / "b.msg"], "x") != first

    def test_stamps_are_kept_one_a_step_and_damage_means_none(self):
        setup_environment.write_stamp("wheels", "1")
        setup_environment.write_stamp("messages", "2")
        assert setup_environment.read_stamps() == {"wheels": "1", "messages": "2"}
        setup_environment.STAMPS.write_text("{")
        assert setup_environment.read_stamps() == {}


class TestExtras:
    def test_none_are_for_the_demo(self):
        assert setup_environment.chosen_extras([], "") == ()

    def test_what_earlier_runs_installed_stays(self):
        assert setup_environment.chosen_extras(["learning"], "data") == ("data", "learning")
        assert setup_environment.chosen_extras([], "data learning") == ("data", "learning")

    def test_all_are_all(self):
        assert setup_environment.chosen_extras(["all"], "") == setup_environment.EXTRAS

    def test_an_unknown_one_is_refused_with_those_there_are(self):
        with pytest.raises(SetupError, match="no extra everything; choose among data, learning"):
            setup_environment.chosen_extras(["everything"], "")

    def test_each_is_a_file_of_requirements(self):
        folder = setup_environment.REPOSITORY / "requirements"
        names = {file.stem for file in folder.glob("*.txt")} - {"transitive"}
        assert names == {*setup_environment.BASE, *setup_environment.EXTRAS}


@pytest.mark.parametrize(
    ("installed", "ours", "kept"),
    [
        ("", "", False),
        ("2.13.0", "", False),
        ("2.13.0+cpu", "2.13.0", False),
        ("2.12.1+rocm", "", True),
        ("2.12.1", "2.12.1", False),
        ("2.12.1", "2.13.0", True),
    ],
)
def test_a_torch_that_somebody_else_installed_is_kept(monkeypatch, installed, ours, kept):
    monkeypatch.setattr(setup_environment, "pinned", lambda name: "2.13.0")
    assert setup_environment.is_users_torch(installed, ours) is kept


def test_include_folders_of_the_wheels_are_replaced(tmp_path):
    file = tmp_path / "std_msgs" / "cmake" / "export_std_msgs__rosidl_generator_pyExport.cmake"
    file.parent.mkdir(parents=True)
    built = "/opt/python/cp312-cp312"
    file.write_text(
        f'INTERFACE_INCLUDE_DIRECTORIES "{built}/include/python3.12;'
        f'{built}/lib/python3.12/site-packages/numpy/_core/include;${{_IMPORT_PREFIX}}/include/std_msgs"'
    )
    for _ in range(2):  # once more changes nothing
        setup_environment.mend_cmake_exports(tmp_path, "/here/include/python3.12", "/here/numpy/_core/include")
        assert file.read_text() == (
            'INTERFACE_INCLUDE_DIRECTORIES "/here/include/python3.12;/here/numpy/_core/include;'
            '${_IMPORT_PREFIX}/include/std_msgs"'
        )


class TestRosEnvironment:
    def test_nothing_sourced(self, tmp_path):
        packages = tmp_path / "lib" / "python3.12" / "site-packages"
        (packages / "ros_rcl.libs").mkdir(parents=True)
        found = ros_environment.ros_environment({"HOME": "/home/me"}, tmp_path, packages)
        assert found["AMENT_PREFIX_PATH"] == str(tmp_path)
        assert found["LD_LIBRARY_PATH"] == f"{tmp_path / 'lib'}:{packages / 'ros_rcl.libs'}"
        assert found["HOME"] == "/home/me"
        assert "PYTHONPATH" not in found
        assert found[ros_environment.WHEELS_GUARD] == "1"
        assert found[ros_environment.GUARD] == str(tmp_path)

    def test_another_ros_is_left_out(self, tmp_path):
        other = tmp_path / "opt" / "ros" / "jazzy"
        (other / "share" / "rclpy").mkdir(parents=True)
        sourced = {
            "AMENT_PREFIX_PATH": f"/home/me/ws/install:{other}",
            "LD_LIBRARY_PATH": f"{other}/lib:/home/me/ws/install/lib:/usr/local/cuda/lib64",
            "PYTHONPATH": f"{other}/lib/python3.12/site-packages:/home/me/mine",
        }
        venv = tmp_path / "venv"
        found = ros_environment.ros_environment(sourced, venv, venv / "site-packages")
        assert found["AMENT_PREFIX_PATH"] == str(venv)
        assert found["LD_LIBRARY_PATH"] == f"{venv}/lib:/usr/local/cuda/lib64"
        assert found["PYTHONPATH"] == "/home/me/mine"

    def test_a_workspace_on_top_of_this_environment_stays(self, tmp_path):
        sourced = {"AMENT_PREFIX_PATH": f"/home/me/ws/install:{tmp_path}", "LD_LIBRARY_PATH": "/home/me/ws/install/lib"}
        found = ros_environment.ros_environment(sourced, tmp_path, tmp_path / "site-packages")
        assert found["AMENT_PREFIX_PATH"] == f"/home/me/ws/install:{tmp_path}"
        assert found["LD_LIBRARY_PATH"] == f"{tmp_path}/lib:/home/me/ws/install/lib"

    def test_doing_it_twice_changes_nothing(self, tmp_path):
        once = ros_environment.ros_environment({"LD_LIBRARY_PATH": "/a"}, tmp_path, tmp_path)
        assert ros_environment.ros_environment(once, tmp_path, tmp_path) == once


@pytest.mark.skipif(
    "VLA_ROS_ENVIRONMENT" not in os.environ or not Path(sysconfig.get_path("purelib"), "vla_ros", "msg").is_dir(),
    reason="needs the environment of 'make setup' with the messages in it; here they are in a workspace",
)
@pytest.mark.parametrize("stale", [{}, {"_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1", "VLA_ROS_ENVIRONMENT": "/other/venv"}])
def test_an_interpreter_started_with_nothing_sourced_uses_ros(stale, tmp_path):
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), **stale}
    code = "import rclpy; from vla_ros.msg import Observation; Observation.__import_type_support__(); print('works')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "works\n"


class TestMessages:
    def test_those_of_tf_are_built_beside_the_package(self, monkeypatch):
        commands, stamps = [], {}
        monkeypatch.setattr(setup_environment, "run_step", lambda title, command, environment: commands.append(command))
        monkeypatch.setattr(setup_environment, "read_stamps", lambda: stamps)
        monkeypatch.setattr(setup_environment, "write_stamp", stamps.__setitem__)
        setup_environment.build_messages("wheels", force=False)
        setup_environment.build_messages("wheels", force=False)
        assert len(commands) == 1
        paths = commands[0][commands[0].index("--paths") + 1 :]
        assert paths[:2] == [str(setup_environment.REPOSITORY), str(setup_environment.TRANSFORM_MESSAGES)]

    def test_the_message_of_tf_has_the_field_of_tf2(self):
        text = (setup_environment.TRANSFORM_MESSAGES / "msg" / "TFMessage.msg").read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert lines == ["geometry_msgs/TransformStamped[] transforms"]
