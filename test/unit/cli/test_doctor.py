"""`vla-ros doctor`: what counts as a failure, and what is printed about it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vla_ros.cli import probes
from vla_ros.cli.commands import doctor
from vla_ros.cli.commands.doctor import FAIL, OK, WARN, Check, examine
from vla_ros.cli.main import main


def lacking():
    raise probes.MissingError("no such thing", "buy one")


def broken():
    raise ZeroDivisionError("oh")


def checks(*entries):
    return tuple(Check(f"check {index}", needed, probe) for index, (needed, probe) in enumerate(entries))


def test_states_follow_need_and_outcome():
    found = list(examine(checks((True, lambda: "fine"), (True, lacking), (False, lacking), (True, broken))))
    assert [finding.state for finding in found] == [OK, FAIL, WARN, FAIL]
    assert found[1].value == "no such thing"
    assert found[1].advice == "buy one"
    assert found[3].value == "ZeroDivisionError: oh"


@pytest.mark.parametrize(("needed", "code"), [(True, 1), (False, 0)])
def test_exit_code_and_json_say_the_same(needed, code, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", checks((True, lambda: "fine"), (needed, lacking)))
    assert main(["doctor", "--json"]) == code
    shown = capsys.readouterr().out
    report = json.loads(shown.splitlines()[-1])
    assert report["ok"] == (code == 0)
    assert [entry["value"] for entry in report["checks"]] == ["fine", "no such thing"]
    assert "-> buy one" in shown


def test_a_probe_that_dies_is_reported(monkeypatch):
    crash = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]
    real_run = subprocess.run
    monkeypatch.setattr(probes.subprocess, "run", lambda _, **options: real_run(crash, **options))
    with pytest.raises(probes.MissingError, match="the process ended with -11"):
        probes.in_child("opengl", "mend it")


def test_a_probe_that_hangs_is_reported(monkeypatch):
    monkeypatch.setattr(probes, "CHILD_TIMEOUT_S", 0.2)
    real_run = subprocess.run
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(probes.subprocess, "run", lambda _, **options: real_run(sleep, **options))
    with pytest.raises(probes.MissingError, match="no answer within"):
        probes.in_child("opengl", "mend it")


def test_small_shared_memory_is_named(monkeypatch):
    usage = type("usage", (), {"free": 64 << 20})
    monkeypatch.setattr(probes.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(probes.MissingError, match="UDP") as caught:
        probes.shared_memory()
    assert "shm-size" in caught.value.advice


def test_opengl_probe_renders_here():
    assert "at 96x96" in probes.opengl()


def test_ros_and_message_probes_work_here():
    pytest.importorskip("rclpy")
    assert "rmw" in probes.ros()
    assert probes.messages().startswith(f"{len(probes.INTERFACES)} interfaces")


def test_every_interface_is_probed():
    root = Path(__file__).resolve().parents[3]  # the sources: the package may be tried as it is installed
    files = [file for kind in ("msg", "srv", "action") for file in (root / kind).glob(f"*.{kind}")]
    present = {f"vla_ros.{file.parent.name}.{file.stem}" for file in files}
    assert set(probes.INTERFACES) == present


def test_shared_memory_is_asked_for_every_participant_of_the_demo():
    graph = pytest.importorskip("vla_ros.ros.graph.description")
    assert len(graph.load_graph().resolve()) + 1 == probes.PARTICIPANTS
