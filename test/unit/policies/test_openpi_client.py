"""The openpi client against a server that answers well, late, wrongly or not at all, and recovery."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from websockets.sync.server import ServerConnection, serve

from vla_ros.actions.trajectory import ArmStart, decode_chunk
from vla_ros.errors import (
    CheckpointError,
    ChunkError,
    InstructionError,
    LinkError,
    ObservationError,
    ServerError,
    VlaError,
    WireError,
)
from vla_ros.paths import share_file
from vla_ros.policies.asynchronous import InferenceWorker, WorkerState
from vla_ros.policies.remote.address import parse_address
from vla_ros.policies.remote.openpi import OpenpiPolicy
from vla_ros.policies.remote.settings import read_settings
from vla_ros.policies.remote.wire import pack, unpack
from vla_ros.robot.contract import load_contract
from vla_ros.types import ActionChunk, Instruction, Observation, Pose, RobotState

CONTRACT = load_contract("panda")
EXAMPLE = yaml.safe_load(share_file("config/policies/openpi.yaml").read_text(encoding="utf-8"))
RED = Instruction("pick up the red cube", 1)
DEADLINE = 20.0
HORIZON, WIDTH = 10, 7


def observation(number: int, cameras: tuple[str, ...] = ("front", "wrist")) -> Observation:
    """Images of one color each; the number of the observation is its stamp and the first joint."""
    images = {name: np.full((96, 128, 3), 10 * (place + 1), np.uint8) for place, name in enumerate(cameras)}
    pose = Pose([0.5, 0.01 * number, 0.3], [1.0, 0.0, 0.0, 0.0])
    state = RobotState(np.full(7, 0.1 * number), np.zeros(7), 0.04, pose, float(number))
    return Observation(images, state, RED, float(number), number)


def good(request: dict[str, Any]) -> dict[str, Any]:
    """A chunk that tells which observation it answers: its first column is the y of the tool."""
    actions = np.zeros((HORIZON, WIDTH), np.float32)
    actions[:, 0] = request["observation/state"][1]
    return {"actions": actions}


class Server:
    """A policy server whose answers a test decides; a port stays its own over a restart."""

    def __init__(self) -> None:
        self.reply: Callable[[dict[str, Any]], Any] = good
        self.metadata: Any = {}
        self.requests: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = serve(self._handle, "127.0.0.1", self.port, compression=None, max_size=None, close_timeout=0.1)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.connections: list[ServerConnection] = []

    def stop(self) -> None:
        self._server.shutdown()
        for connection in self.connections:
            connection.close_socket()
        self._thread.join(DEADLINE)

    def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.headers.append(connection.request.headers.get("Authorization"))
        self.connections.append(connection)
        connection.send(self.metadata if isinstance(self.metadata, str | bytes) else pack(self.metadata))
        for message in connection:
            self.requests.append(unpack(message))
            answer = self.reply(self.requests[-1])
            if answer is None:
                connection.close_socket()
                return
            connection.send(answer if isinstance(answer, str | bytes) else pack(answer))


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.stop()


def connect(server: Server, **lines: Any) -> OpenpiPolicy:
    values = {**EXAMPLE, "address": f"openpi://127.0.0.1:{server.port}", "timeout": 20.0, **lines}
    policy = OpenpiPolicy(read_settings(values), CONTRACT, wait=DEADLINE)
    policy.reset(RED)
    return policy


@pytest.fixture
def policy(server: Server) -> Iterator[OpenpiPolicy]:
    one = connect(server)
    yield one
    one.close()


def recovers(policy: OpenpiPolicy, number: int) -> ActionChunk:
    """Return the first chunk that comes within the deadline, of observations as a robot would offer them."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            return policy.predict(observation(number))
        except LinkError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def answers(chunk: ActionChunk, number: int) -> bool:
    """Say whether a chunk was made for an observation: each row of the server moved 0.01 m times its number."""
    expected = 0.01 * number * np.arange(1, chunk.horizon + 1)
    return bool(np.allclose(chunk.actions[:, 0], expected, atol=1e-6))


def test_good_answer_becomes_a_chunk_of_the_robot(server: Server, policy: OpenpiPolicy) -> None:
    chunk = policy.predict(observation(3))
    assert chunk.specification == CONTRACT.action.fingerprint
    assert (chunk.observation_stamp, chunk.observation_sequence) == (3.0, 3)  # its age counts the way there and back
    assert answers(chunk, 3)
    start = {"arm": ArmStart(np.zeros(7), observation(3).state.end_effector, 0.08)}
    arm = decode_chunk(chunk.actions, CONTRACT.action, start)["arm"]
    np.testing.assert_allclose(arm.openings, 0.04)  # 0 of closed_is_plus is half open


def test_answer_of_another_rate_is_resampled(server: Server) -> None:
    policy = connect(server, action={**EXAMPLE["action"], "rate_hz": 2.0 * CONTRACT.action.rate_hz})
    chunk = policy.predict(observation(3))
    policy.close()
    assert (chunk.period, chunk.specification) == (CONTRACT.action.period, CONTRACT.action.fingerprint)
    np.testing.assert_allclose(chunk.actions[:, 0], 0.06 * np.arange(1, chunk.horizon + 1), atol=1e-6)


def test_keys_are_those_of_the_file_and_cameras_go_by_name(server: Server, policy: OpenpiPolicy) -> None:
    policy.predict(observation(3, ("wrist", "front")))
    request = server.requests[-1]
    assert set(request) == {"observation/image", "observation/wrist_image", "observation/state", "prompt"}
    assert request["observation/image"].shape == request["observation/wrist_image"].shape == (224, 224, 3)
    assert request["observation/image"][112, 112, 0] == 20  # front, which comes second in the observation
    assert request["observation/wrist_image"][112, 112, 0] == 10
    np.testing.assert_allclose(request["observation/state"], [0.5, 0.03, 0.3, np.pi, 0.0, 0.0, 0.04], atol=1e-6)
    assert request["prompt"] == RED.text


def test_nested_keys_and_planar_images(server: Server) -> None:
    camera = {"key": ["images", "cam_high"], "height": 48, "width": 64, "layout": "chw"}
    states = [{"key": "state", "groups": [{"group": "arm/joint_position", "joints": 7}]}]
    server.reply = lambda request: {"actions": np.zeros((1, WIDTH))}
    policy = connect(server, observation={"cameras": {"front": camera}, "states": states, "prompt": "prompt"})
    policy.predict(observation(2))
    assert server.requests[-1]["images"]["cam_high"].shape == (3, 48, 64)
    np.testing.assert_allclose(server.requests[-1]["state"], 0.2)
    policy.close()


def test_missing_camera_is_named(policy: OpenpiPolicy) -> None:
    with pytest.raises(ObservationError, match="needs camera 'wrist', the observation has \\['front'\\]"):
        policy.predict(observation(1, ("front",)))


def nan(request: dict[str, Any]) -> dict[str, Any]:
    actions = np.zeros((HORIZON, WIDTH))
    actions[2, 3] = np.nan
    return {"actions": actions}


TRACEBACK = (
    "Traceback (most recent call last):\n  File \"policy.py\", line 1, in infer\nKeyError: 'observation/image'\n"
)
WRONG: dict[str, tuple[Any, type[VlaError], str]] = {
    "wrong width": ({"actions": np.zeros((HORIZON, 8))}, ChunkError, r"\(10, 8\), expected 1 to 10 rows of 7 columns"),
    "too many rows": ({"actions": np.zeros((11, WIDTH))}, ChunkError, r"\(11, 7\)"),
    "no rows": ({"actions": np.zeros((0, WIDTH))}, ChunkError, r"\(0, 7\)"),
    "one row without its axis": ({"actions": np.zeros(WIDTH)}, ChunkError, r"\(7,\)"),
    "other key": ({"action": np.zeros((HORIZON, WIDTH))}, ChunkError, r"under 'actions', got only \['action'\]"),
    "text for numbers": ({"actions": "up"}, ChunkError, "got str"),
    "NaN": (nan, ChunkError, "1 of 70 of the server's values are not finite"),
    "infinity": ({"actions": np.full((1, WIDTH), np.inf)}, ChunkError, "7 of 7 of"),
    "100 MB": (bytes(100 << 20), WireError, "more than 1048576 bytes"),
    "text frame": (TRACEBACK, ServerError, "error: KeyError: 'observation/image'"),
    "pickle": (pickle.dumps({"actions": np.zeros((HORIZON, WIDTH))}), WireError, "a pickle, which is never opened"),
    "rubbish": (b"\xc1\xff", WireError, "not msgpack"),
    "dropped line": (None, LinkError, "has closed the connection"),
}


@pytest.mark.parametrize(("answer", "error", "says"), WRONG.values(), ids=WRONG)
def test_wrong_answer_is_refused_and_the_next_one_is_taken(
    server: Server, policy: OpenpiPolicy, answer: Any, error: type[VlaError], says: str
) -> None:
    server.reply = answer if callable(answer) else lambda request: answer
    with pytest.raises(error, match=says):
        policy.predict(observation(1))
    server.reply = good
    assert answers(recovers(policy, 2), 2)


def test_late_answer_is_dropped_and_never_taken_for_another(server: Server) -> None:
    policy = connect(server, timeout=0.1)
    release = threading.Event()

    def late(request: dict[str, Any]) -> dict[str, Any]:
        assert release.wait(DEADLINE)
        return good(request)

    server.reply = late
    with pytest.raises(LinkError, match=r"has not answered within 0\.1 s"):
        policy.predict(observation(1))
    with pytest.raises(LinkError, match="has not answered an earlier request"):
        policy.predict(observation(2))
    assert len(server.requests) == 1  # nothing is sent while an answer is due
    release.set()
    chunk = recovers(policy, 3)
    assert chunk.observation_sequence == 3
    assert answers(chunk, 3)
    policy.close()


def test_worker_waits_while_the_server_is_away_and_goes_on(server: Server, policy: OpenpiPolicy) -> None:
    chunks: list[ActionChunk] = []
    change = threading.Condition()

    def finished() -> None:
        with change:
            change.notify_all()

    worker = InferenceWorker(policy, chunks.append, finished, stale_after=DEADLINE, hung_after=DEADLINE)
    number = 0

    def works_until(condition: Callable[[], bool]) -> None:
        nonlocal number
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, worker.status()
            number += 1
            worker.offer(observation(number))
            with change:
                change.wait(0.02)

    worker.instruct(RED)
    works_until(lambda: bool(chunks))
    assert worker.status().state is WorkerState.RUNNING
    server.reply = nan
    works_until(lambda: worker.status().state is WorkerState.FAULT)
    assert "not finite" in worker.status().sentence
    server.stop()
    works_until(lambda: worker.status().state is WorkerState.WAITING)
    works_until(lambda: "no connection to openpi://127.0.0.1" in worker.status().sentence)
    count = len(chunks)
    server.reply = good
    server.start()
    works_until(lambda: len(chunks) > count)
    assert worker.status().state is WorkerState.RUNNING
    assert answers(chunks[-1], chunks[-1].observation_sequence)
    assert worker.close()


def test_idle_connection_that_ends_is_made_again(server: Server, policy: OpenpiPolicy) -> None:
    server.stop()
    server.start()
    end = time.monotonic() + DEADLINE
    while not server.connections:  # without any observation
        assert time.monotonic() < end
        time.sleep(0.02)
    assert answers(recovers(policy, 4), 4)


def test_policy_with_a_file_is_ready_before_its_server(server: Server) -> None:
    server.stop()
    policy = OpenpiPolicy(
        read_settings({**EXAMPLE, "address": f"openpi://127.0.0.1:{server.port}"}), CONTRACT, wait=0.1
    )
    policy.reset(RED)
    with pytest.raises(LinkError, match="no connection"):
        policy.predict(observation(1))
    server.start()
    assert answers(recovers(policy, 2), 2)
    policy.close()


def test_server_that_says_nothing_of_itself_needs_a_file(server: Server) -> None:
    address = {"kind": "openpi", "address": f"openpi://127.0.0.1:{server.port}"}
    with pytest.raises(CheckpointError, match="metadata does not say what it takes and gives"):
        OpenpiPolicy(read_settings(address), CONTRACT, wait=DEADLINE)
    server.stop()
    with pytest.raises(CheckpointError, match=r"no connection to openpi://127.* start it first"):
        OpenpiPolicy(read_settings(address), CONTRACT, wait=0.1)


@pytest.mark.parametrize("metadata", ["hello", pickle.dumps({}), bytes(2 << 20), {"vla_ros": 3}, {"vla_ros": {}}])
def test_wrong_greeting_is_refused(server: Server, metadata: Any) -> None:
    server.metadata = metadata
    values = {**EXAMPLE, "address": f"openpi://127.0.0.1:{server.port}"}
    policy = None
    try:
        policy = OpenpiPolicy(read_settings(values), CONTRACT, wait=2.0)
        policy.reset(RED)
        with pytest.raises(VlaError, match=r"closed the connection \(code 1009"):
            policy.predict(observation(1))
    except (WireError, CheckpointError) as error:
        assert any(word in str(error) for word in ("greets with", "pickle", "metadata"))  # noqa: PT017
    finally:
        if policy is not None:
            policy.close()
    assert not server.requests


def test_token_is_sent_as_openpi_sends_it(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLA_ROS_OPENPI_TOKEN", "from-the-usual-place")
    monkeypatch.setenv("OTHER", "from-another")
    (tmp_path / "token").write_text("from-a-file\n")
    for lines in ({}, {"token_env": "OTHER"}, {"token_file": str(tmp_path / "token")}):
        connect(server, **lines).close()
    assert server.headers == ["Api-Key from-the-usual-place", "Api-Key from-another", "Api-Key from-a-file"]
    with pytest.raises(CheckpointError, match="NOWHERE: there is no token"):
        connect(server, token_env="NOWHERE")


MISFITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "camera": (
        lambda v: v["observation"]["cameras"].update(top=v["observation"]["cameras"].pop("front")),
        "camera top: trained with",
    ),
    "joints": (
        lambda v: v["action"].update(groups=[{"group": "arm/joint_position", "joints": 6}]),
        r"arm/joint_position: trained with .*joints 6.*joints are no tool.*action gripper: trained with none",
    ),
    "frame": (
        lambda v: v["action"]["groups"][0].update(frame="world"),
        "frame: trained with world, the robot has panda_link0",
    ),
    "robot": (lambda v: v["robot"].update({"gripper.max_opening": 0.1}), r"gripper\.max_opening: trained with 0\.1"),
}


@pytest.mark.parametrize(("change", "says"), MISFITS.values(), ids=MISFITS)
def test_policy_that_does_not_fit_the_robot_is_refused(change: Callable[[dict[str, Any]], Any], says: str) -> None:
    values = yaml.safe_load(yaml.safe_dump(EXAMPLE))
    change(values)
    with pytest.raises(CheckpointError, match=says):
        OpenpiPolicy(read_settings(values), CONTRACT, wait=0.0)


def test_other_actions_of_a_server_are_refused(server: Server) -> None:
    features = read_settings(EXAMPLE).features
    assert features is not None
    server.metadata = {"vla_ros": replace(features, action=CONTRACT.action).to_dict()}
    with pytest.raises(CheckpointError, match="it serves other actions than are expected"):
        connect(server)


def test_without_an_instruction_nothing_is_asked(server: Server) -> None:
    policy = OpenpiPolicy(read_settings({**EXAMPLE, "address": f"openpi://127.0.0.1:{server.port}"}), CONTRACT)
    with pytest.raises(InstructionError, match="call reset first"):
        policy.predict(observation(1))
    policy.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("openpi://", "expected openpi://host"),
        ("openpi://host:0", "expected openpi://host"),
        ("openpi://host:99999", "Port out of range"),
        ("openpi://user:secret@host", "A token comes from"),
        ("openpi://host/?token=secret", "A token comes from"),
    ],
)
def test_wrong_address_is_refused_without_its_secrets(text: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=says) as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


def test_address_of_every_kind() -> None:
    assert parse_address("openpi://robot.local").uri == "ws://robot.local:8000"
    assert parse_address("openpis://[::1]:9/v1/").uri == "wss://[::1]:9/v1"
