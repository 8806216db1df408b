"""The thread of the cameras never dies in silence, and nobody waits for it for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from vla_ros.envs.mujoco import cameras
from vla_ros.envs.mujoco.cameras import CameraThread, Snapshot
from vla_ros.errors import SimulationError
from vla_ros.robot.contract import load_contract

CONTRACT = load_contract("panda")


class LostContext:
    """A cell whose OpenGL context is lost after the first pictures."""

    closed = False

    def render(self, camera: str) -> None:
        """Succeeds until the thread is ready."""

    def reset(self, seed: int, instruction: str | None) -> None:
        raise RuntimeError("the context is lost")

    def close(self) -> None:
        self.closed = True


def _thread(monkeypatch: pytest.MonkeyPatch, make_env: Callable[..., object], said: list[str]) -> CameraThread:
    monkeypatch.setattr(cameras, "make_env", make_env)
    return CameraThread(CONTRACT, {}, lambda frames: None, said.append)


@pytest.mark.timeout(60)
def test_whatever_keeps_the_cell_from_being_built_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("no display")  # as MuJoCo does

    with pytest.raises(SimulationError, match="cannot render: no display"):
        _thread(monkeypatch, broken, [])


@pytest.mark.timeout(60)
def test_a_cell_that_is_never_built_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    free, cell = threading.Event(), LostContext()

    def stuck(*arguments: object) -> LostContext:
        free.wait(30.0)
        return cell

    monkeypatch.setattr(cameras, "START_WAIT", 0.2)
    with pytest.raises(SimulationError, match="do not render within"):
        _thread(monkeypatch, stuck, [])
    free.set()
    deadline = time.monotonic() + 30.0
    while not cell.closed:  # and who comes too late frees what it has made
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_ends_the_cameras_later_is_reported_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, said = LostContext(), []
    thread = _thread(monkeypatch, lambda *arguments: cell, said)
    ticket = thread.request(Snapshot(0.0, np.zeros(1), (0, None), ("front",)))
    assert thread.wait(ticket, 30.0)
    thread.close()
    assert said == ["the cameras ended: RuntimeError: the context is lost"] and cell.closed
