"""The dispatch of `vla-ros`: exit codes, suggestions, and that nothing heavy is imported before it is needed."""

import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from vla_ros.cli import main as cli


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_lists_the_commands_and_succeeds(words, capsys):
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    for name in cli.present_commands():
        assert f"  {name} " in shown


def test_no_command_is_a_usage_error(capsys):
    assert cli.main([]) == 2
    assert "usage: vla-ros" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "meant"), [("docter", "doctor"), ("trian", "train"), ("colect", "collect")])
def test_a_near_name_is_suggested(word, meant, capsys):
    assert cli.main([word]) == 2
    assert f"did you mean '{meant}'?" in capsys.readouterr().err


def test_a_far_name_is_answered_with_all_commands(capsys):
    assert cli.main(["zzz"]) == 2
    assert "choose one of: doctor" in capsys.readouterr().err


def test_an_unknown_option_is_a_usage_error(capsys):
    assert cli.main(["doctor", "--no-such-option"]) == 2
    assert "--no-such-option" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.present_commands())
def test_every_command_keeps_the_contract(name, capsys):
    assert cli.main([name, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    module = importlib.import_module(f"vla_ros.cli.commands.{name}")
    assert cli.help_line(name) == module.HELP
    assert "\n" not in module.HELP
    assert module.HELP in shown
    assert "--json" in shown
    assert callable(module.run)


def test_help_imports_neither_ros_nor_torch():
    code = (
        "import sys; from vla_ros.cli.main import main; main(['--help']); "
        "sys.exit(bool({'rclpy', 'torch', 'mujoco'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whatever_ends_a_command_lets_it_clean_up(number, monkeypatch, capsys):
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    cleaned = []

    def run(arguments):
        try:
            os.kill(os.getpid(), number)
            threading.Event().wait(10.0)
        finally:
            cleaned.append(True)

    command = types.SimpleNamespace(HELP="", add_arguments=lambda parser: None, run=run)
    monkeypatch.setattr(cli, "import_module", lambda name: command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background job
    try:
        assert cli.main(["doctor"]) == 1
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    assert cleaned
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version_is_that_of_the_package(word, capsys):
    assert cli.main([word]) == 0
    shown = capsys.readouterr().out
    manifest = (Path(__file__).parents[3] / "package.xml").read_text(encoding="utf-8")
    assert re.fullmatch(r"vla-ros [0-9.]+\n", shown)
    assert f"<version>{shown.split()[1]}</version>" in manifest


def test_the_version_does_not_need_the_working_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "package.xml").write_text("<package><version>9.9.9</version></package>", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--version"]) == 0
    assert "9.9.9" not in capsys.readouterr().out


HANGS = """
import ctypes
from vla_ros.cli.interrupts import interrupt_on_signals
interrupt_on_signals()
try:
    print("up", flush=True)
    while True:
        pass
except KeyboardInterrupt:
    print("closing", flush=True)
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)  # which keeps the interpreter's lock
    while True:
        library.pthread_mutex_lock(mutex)  # as a library may that is closing
"""


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_command_that_hangs_while_it_closes(second):
    process = subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "closing\n"
        process.send_signal(second)
        assert process.wait(30) == -second
    finally:
        process.kill()
        process.wait()
