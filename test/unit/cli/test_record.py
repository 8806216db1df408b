"""`vla-ros record`: wrong usage, and single keys from a terminal."""

import os
import termios
import threading

import pytest

from vla_ros.cli.keys import Keys, single_keys
from vla_ros.cli.main import main
from vla_ros.errors import ContractError


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--episodes", "0"], "at least 1"),
        (["--timeout", "nan"], "more than 0"),
        (["--real"], "needs --instruction"),
        (["--real", "--instruction", "push it"], "--real needs --teleop"),
        (["--robot", "no_such_robot"], "no_such_robot"),
    ],
)
def test_wrong_usage_is_said_before_anything_starts(words, reason, tmp_path, capsys):
    assert main(["record", "--out", str(tmp_path), *words]) == 2
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_keyboard_needs_a_terminal(tmp_path, capsys):
    assert main(["record", "--teleop", "--out", str(tmp_path)]) == 1
    assert "run this in a terminal" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def terminal(monkeypatch):
    person, program = os.openpty()
    with os.fdopen(program, "r") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield person, program
    os.close(person)


def test_keys_come_one_by_one_and_the_terminal_is_given_back(terminal):
    person, program = terminal
    before = termios.tcgetattr(program)
    with single_keys() as keys:
        assert not termios.tcgetattr(program)[3] & termios.ICANON
        assert keys.read(0.0) == ""
        threading.Thread(target=os.write, args=(person, b"wa\x1b")).start()
        found = ""
        while len(found) < 3:
            found += keys.read(10.0)
        assert found == "wa\x1b"
    assert termios.tcgetattr(program) == before


def test_the_terminal_is_given_back_after_an_error(terminal):
    before = termios.tcgetattr(terminal[1])
    with pytest.raises(ContractError, match="trouble"), single_keys():
        raise ContractError("trouble")
    assert termios.tcgetattr(terminal[1]) == before


def test_an_arrow_is_not_taken_for_the_escape_key():
    reading, writing = os.pipe()
    os.write(writing, b"\x1b[A\x1bOPw\x1b[15~\x1b")
    assert Keys(reading).read(1.0) == "w\x1b"
    os.close(reading)
    os.close(writing)


def test_keys_that_wait_are_read_all_at_once():
    reading, writing = os.pipe()
    os.write(writing, b"w" * 1000 + b"\n\x1b")
    assert Keys(reading).read_waiting() == "w" * 1000 + "\n\x1b"
    assert Keys(reading).read_waiting() == ""
    os.close(reading)
    os.close(writing)


def test_an_ended_input_gives_no_key():
    reading, writing = os.pipe()
    os.close(writing)
    assert Keys(reading).read(1.0) == ""
    os.close(reading)
