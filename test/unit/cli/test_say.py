"""`vla-ros say` finds the graph from any folder: that of `runs/`, else the only one that runs."""

from __future__ import annotations

import fcntl
import json

import pytest

pytest.importorskip("rclpy")

from vla_ros.bringup.running_graphs import LOCK_FILE, RunningGraph, announce, running_graphs
from vla_ros.cli.commands.say import domain_of_graph
from vla_ros.errors import VlaError

STATE = "graph.json"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Be in a folder without graphs, on a machine without others."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runtime").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path


def start(folder, domain):
    """Leave behind what a graph that runs does; returns the file whose lock says that it runs."""
    lock = folder / LOCK_FILE
    lock.parent.mkdir(parents=True)
    hold = lock.open("wb")
    fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (folder / STATE).write_text(json.dumps({"domain_id": domain}), encoding="utf-8")
    announce(RunningGraph(str(folder), domain, 1000 + domain))
    return hold


def test_the_only_graph_is_found_from_any_folder(elsewhere):
    with start(elsewhere / "somewhere", 7):
        assert domain_of_graph(None) == 7


def test_a_graph_that_was_killed_is_none(elsewhere):
    with start(elsewhere / "somewhere", 7):
        pass  # the lock ends with its holder, and the note is left
    with pytest.raises(VlaError, match=r"no running graph.*demo --keep-running"):
        domain_of_graph(None)
    assert not list((elsewhere / "runtime" / "vla_ros" / "graphs").iterdir())


def test_of_several_graphs_none_is_guessed(elsewhere):
    with start(elsewhere / "one", 7), start(elsewhere / "two", 8):
        with pytest.raises(VlaError, match=r"2 graphs run.*one.*two.*--out"):
            domain_of_graph(None)
        assert domain_of_graph(elsewhere / "two") == 8


def test_the_graph_of_this_folder_comes_first(elsewhere):
    with start(elsewhere / "elsewhere" / "runs", 7), start(elsewhere / "two", 8):
        assert domain_of_graph(None) == 7


def test_without_a_demo_it_is_the_domain_of_the_shell(elsewhere, monkeypatch):
    """A graph of `ros2 launch` leaves no note: it is where the shell's ROS_DOMAIN_ID says."""
    monkeypatch.setenv("ROS_DOMAIN_ID", "9")
    assert domain_of_graph(None) == 9
    with start(elsewhere / "somewhere", 7):
        assert domain_of_graph(None) == 7


def test_a_damaged_note_is_no_graph(elsewhere):
    with start(elsewhere / "one", 7):
        note = next((elsewhere / "runtime" / "vla_ros" / "graphs").iterdir())
        note.write_text("{", encoding="utf-8")
        assert running_graphs() == []


def test_a_folder_of_another_user_is_not_believed(elsewhere, monkeypatch):
    (elsewhere / "runtime" / "vla_ros").symlink_to(elsewhere / "one", target_is_directory=True)
    with pytest.raises(OSError, match=r"exists|yours"):
        announce(RunningGraph("x", 1, 1))
    assert running_graphs() == []
