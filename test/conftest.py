"""What holds for every test: the order of imports, no clock in properties, no DDS domain kept, an end of every wait."""

import contextlib
import faulthandler
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import settings

import vla_ros.envs.mujoco.rendering  # noqa: F401  # MuJoCo chooses its OpenGL back end when it is imported
from vla_ros.robot.contract import RobotContract, load_contract, parse_contract
from vla_ros.yaml_files import parse_yaml

settings.register_profile("no_clock", deadline=None)  # no test asserts a time
settings.load_profile("no_clock")


@pytest.fixture(scope="module", autouse=True)
def released_domains() -> Iterator[None]:
    """Give back a module's DDS domains: the whole run needs more than the 99 that there are when tests run again."""
    yield
    claims = sys.modules.get("vla_ros.ros.dds.domains")
    if claims is not None:
        claims.release_domains()


@pytest.fixture(scope="session")
def of_joints() -> Callable[..., RobotContract]:
    """of_joints(robot, quantity, **lines): the contract of a shipped robot, commanded at its joints and its gripper."""

    def made(
        robot: str,
        quantity: str = "joint_position",
        *,
        gripper: str = "open_is_one",
        rate_hz: float = 10.0,
        horizon: int = 12,
        **lines: Any,
    ) -> RobotContract:
        values = parse_yaml(load_contract(robot).text)
        motion = {"group": f"arm/{quantity}", "joints": len(values["joints"]["names"]), **lines}
        if lines.get("unit") in ("percent", "normalized"):  # as LeRobot calibrates its arms: the whole range
            motion |= {"low": values["joints"]["lower"], "high": values["joints"]["upper"]}
        groups = [motion, *([{"group": "arm/gripper", "gripper": gripper}] if values["gripper"] != "none" else [])]
        values["action"] = {"groups": groups, "rate_hz": rate_hz, "horizon": horizon}
        return parse_contract(yaml.safe_dump(values))

    return made


@pytest.fixture(scope="session")
def so101_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a checkpoint that `vla-ros train --robot so101` made of a data set in lerobot's form."""
    pytest.importorskip("torch")
    pytest.importorskip("pyarrow")
    sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path, not from their folder
    from joint_recordings import record, table

    from vla_ros.cli.main import main

    folder = tmp_path_factory.mktemp("so101")
    data = table(record(folder / "reach"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["train", "--data", str(data), "--robot", "so101", "--model", "unified", "--size", "tiny"]
        sizes = ["--steps", "250", "--batch", "16", "--learning-rate", "0.003", "--device", "cpu", "--threads", "1"]
        assert main([*words, *sizes, "--out", "policy"]) == 0
    return folder / "policy"


@contextlib.contextmanager
def ended_when_stuck(config: pytest.Config) -> Iterator[None]:
    """End the run, saying where every thread is, when the block takes longer than `faulthandler_timeout` s.

    A signal reaches no test that waits in the middleware's C++, and none reaches a test that runs again: both plugins
    that could end it count the first try alone.
    """
    limit = float(config.getini("faulthandler_timeout") or 0.0)
    if limit > 0.0:
        faulthandler.dump_traceback_later(limit, file=config.stash[fault_handler_stderr_fd_key], exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Guard the fixtures of a test."""
    with ended_when_stuck(item.config):
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Guard a test."""
    with ended_when_stuck(item.config):
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Guard the ends of its fixtures."""
    with ended_when_stuck(item.config):
        yield
