"""`vla-ros serve` with real clients: this package's own, and `openpi-client` where an interpreter has it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from vla_ros.cli.main import main
from vla_ros.errors import CheckpointError, InstructionError, LinkError
from vla_ros.policies.build import load_policy
from vla_ros.policies.remote.address import Address
from vla_ros.policies.remote.openpi import OpenpiPolicy, OpenpiSettings
from vla_ros.policies.remote.wire import pack, unpack
from vla_ros.policies.serving.server import PolicyServer, ServeOptions
from vla_ros.robot.contract import load_contract
from vla_ros.types import ActionChunk, Instruction, Observation, Pose, RobotState

CONTRACT = load_contract("panda")
DEADLINE = 30.0
PEER = "VLA_ROS_OPENPI_PYTHON"


class Echo:
    """A policy that remembers: its first column counts the observations since its instruction."""

    name, device = "echo", "cpu"
    image_sizes = MappingProxyType({"front": (6, 8)})
    specification = CONTRACT.action

    def __init__(self) -> None:
        self.count, self.text = -1, ""
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.seen: list[Observation] = []

    def reset(self, instruction: Instruction) -> None:
        if "elephant" in instruction.text:
            raise InstructionError(f"'{instruction.text}': unknown words")
        self.count, self.text = 0, instruction.text

    def predict(self, observation: Observation) -> ActionChunk:
        self.entered.set()
        assert self.gate.wait(DEADLINE)
        self.seen.append(observation)
        if self.text == "crash":
            raise RuntimeError("secret of the server")
        self.count += 1
        actions = np.zeros((2, 7))
        actions[:, 0] = self.count
        space = self.specification
        return ActionChunk(actions, space.period, observation.stamp, space.fingerprint, trust=0.25)


@contextmanager
def serving(policy: Any, **options: Any) -> Iterator[int]:
    """Serve in a thread with an event loop of its own; gives the port."""
    server = PolicyServer(policy, CONTRACT, ServeOptions(port=0, **options))
    ports: list[int] = []
    started, ending = threading.Event(), []

    async def serve() -> None:
        stop = asyncio.Event()
        ending.append((asyncio.get_running_loop(), stop))
        await server.run(stop, lambda port: (ports.append(port), started.set()))

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(DEADLINE)
    try:
        yield ports[0]
    finally:
        loop, stop = ending[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE)
        assert not thread.is_alive()


def observation(**images: np.ndarray) -> Observation:
    front = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)
    pose = Pose([0.5, 0.1, 0.3], [-0.6, 0.0, 0.0, -0.8])
    state = RobotState(np.linspace(-1, 1, 7), np.linspace(0, 1, 7), 0.03, pose, 9.0)
    return Observation({"front": front, **images}, state, None, 9.0, 4)


def client(port: int, **settings: Any) -> OpenpiPolicy:
    address = Address("127.0.0.1", port)
    return OpenpiPolicy(OpenpiSettings(address, timeout=DEADLINE, **settings), CONTRACT, wait=DEADLINE)


def request(**lines: Any) -> dict[str, Any]:
    values = {
        "observation/front": np.zeros((6, 8, 3), np.uint8),
        "observation/joint_position": np.zeros(7),
        "observation/joint_velocity": np.zeros(7, np.float32),
        "observation/ee_pose": np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0]),
        "observation/gripper": np.array([0.04]),
        "prompt": "pick up the red cube",
    }
    return {key: value for key, value in {**values, **lines}.items() if value is not None}


def test_own_client_gets_what_the_policy_says_of_what_was_measured() -> None:
    policy = Echo()
    with serving(policy) as port:
        remote = client(port)
        assert remote.image_sizes == {"front": (6, 8)}
        remote.reset(Instruction("pick up the red cube", 5))
        chunk = remote.predict(observation())
        assert (chunk.actions[0, 0], chunk.trust, chunk.observation_stamp) == (1.0, 0.25, 9.0)
        assert remote.predict(observation()).actions[0, 0] == 2.0
        remote.reset(Instruction("pick up the red cube", 6))  # the same words again: it begins again
        assert remote.predict(observation()).actions[0, 0] == 1.0
        remote.close()
    seen, sent = policy.seen[0], observation()
    np.testing.assert_array_equal(seen.images["front"], sent.images["front"])
    np.testing.assert_array_equal(seen.state.joint_positions, sent.state.joint_positions)
    np.testing.assert_array_equal(seen.state.joint_velocities, sent.state.joint_velocities)
    np.testing.assert_allclose(seen.state.end_effector.position, sent.state.end_effector.position)
    np.testing.assert_allclose(seen.state.end_effector.quaternion, [0.6, 0.0, 0.0, 0.8])  # the same rotation
    assert seen.state.gripper_opening == 0.03


def test_clients_do_not_share_a_memory() -> None:
    with serving(Echo()) as port:
        first, second = client(port), client(port)
        for one, text in ((first, "a"), (second, "b")):
            one.reset(Instruction(text))
            assert one.predict(observation()).actions[0, 0] == 1.0
        assert first.predict(observation()).actions[0, 0] == 1.0  # another one was there: it was reset
        assert first.predict(observation()).actions[0, 0] == 2.0
        first.close(), second.close()


def test_clients_of_a_policy_that_forks_keep_theirs() -> None:
    class Forking(Echo):
        def fork(self) -> Forking:
            return Forking()

    with serving(Forking()) as port:
        first, second = client(port), client(port)
        for one in (first, second):
            one.reset(Instruction("a"))
        counts = [one.predict(observation()).actions[0, 0] for one in (first, second, first, second, first)]
        assert counts == [1, 1, 2, 2, 3]
        first.close(), second.close()


def test_unknown_words_are_an_instruction_error_and_a_crash_tells_no_secret() -> None:
    with serving(Echo()) as port:
        remote = client(port)
        remote.reset(Instruction("lift the elephant"))
        with pytest.raises(InstructionError, match="'lift the elephant': unknown words"):
            remote.predict(observation())
        remote.reset(Instruction("crash"))
        with pytest.raises(Exception, match="RuntimeError: the policy raised an error") as caught:
            remote.predict(observation())
        assert "secret" not in str(caught.value)
        remote.reset(Instruction("go on"))
        assert remote.predict(observation()).actions[0, 0] == 1.0
        remote.close()


def test_requests_beyond_the_queue_are_told_that_it_is_busy() -> None:
    policy = Echo()
    policy.gate.clear()
    with serving(policy, queue=0) as port:
        first, second = client(port), client(port)
        first.reset(Instruction("a"))
        thread = threading.Thread(target=lambda: first.predict(observation()))
        thread.start()
        assert policy.entered.wait(DEADLINE)
        second.reset(Instruction("b"))
        with pytest.raises(LinkError, match="the server is busy: 0 requests are waiting"):
            second.predict(observation())
        policy.gate.set()
        thread.join(DEADLINE)
        assert second.predict(observation()).actions[0, 0] == 1.0
        first.close(), second.close()


def test_no_more_clients_than_allowed() -> None:
    with serving(Echo(), clients=1) as port:
        first = client(port)
        with pytest.raises(InvalidStatus, match="503"), connect(f"ws://127.0.0.1:{port}", proxy=None):
            pass
        first.close()


@pytest.mark.parametrize("scheme", ["Api-Key", "Bearer"])
def test_token_lets_in_and_nothing_else_does(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Echo(), token="right") as port:
        uri = f"ws://127.0.0.1:{port}"
        for headers in ({}, {"Authorization": f"{scheme} wrong"}, {"Authorization": "right"}):
            with pytest.raises(InvalidStatus, match="401"), connect(uri, additional_headers=headers, proxy=None):
                pass
        with connect(uri, additional_headers={"Authorization": f"{scheme} right"}, proxy=None) as connection:
            assert "vla_ros" in unpack(connection.recv(timeout=DEADLINE))
        monkeypatch.setenv("VLA_ROS_OPENPI_TOKEN", "right")
        client(port).close()
        monkeypatch.setenv("VLA_ROS_OPENPI_TOKEN", "wrong")
        with pytest.raises(CheckpointError, match=r"refuses this token \(HTTP 401\)"):
            OpenpiPolicy(OpenpiSettings(Address("127.0.0.1", port)), CONTRACT, wait=0.5)


def test_health_needs_no_token() -> None:
    with serving(Echo(), token="right") as port:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/healthz", timeout=DEADLINE) as answer:
            assert (answer.status, answer.read()) == (200, b"OK\n")


WRONG_REQUESTS = {
    "text": ("hello", "WireError: got a text"),
    "rubbish": (b"\xc1", "WireError: .*not msgpack"),
    "no image": (request(**{"observation/front": None}), "observation/front: got nothing, expected uint8"),
    "other size": (request(**{"observation/front": np.zeros((6, 4, 3), np.uint8)}), r"uint8 \(6, 4, 3\)"),
    "floats as image": (request(**{"observation/front": np.zeros((6, 8, 3))}), r"got float64 \(6, 8, 3\)"),
    "six joints": (request(**{"observation/joint_position": np.zeros(6)}), "expected 7 numbers"),
    "NaN": (request(**{"observation/gripper": np.array([np.nan])}), "1 values are not finite"),
    "no rotation": (request(**{"observation/ee_pose": np.zeros(7)}), "norm 0, expected 1"),
    "no prompt": (request(prompt=None), "InstructionError: prompt is 'None'"),
    "empty prompt": (request(prompt=" "), "expected text of 1 to 1000"),
}


@pytest.mark.parametrize(("message", "says"), WRONG_REQUESTS.values(), ids=WRONG_REQUESTS)
def test_wrong_request_is_answered_by_a_text_and_the_next_one_is_served(message: Any, says: str) -> None:
    with serving(Echo()) as port, connect(f"ws://127.0.0.1:{port}", proxy=None, compression=None) as connection:
        connection.recv(timeout=DEADLINE)
        connection.send(pack(message) if isinstance(message, dict) else message)
        answer = connection.recv(timeout=DEADLINE)
        assert isinstance(answer, str)
        with pytest.raises(AssertionError, match=says):
            raise AssertionError(answer)
        connection.send(pack(request()))
        assert unpack(connection.recv(timeout=DEADLINE))["actions"].shape == (2, 7)


def test_oversized_request_ends_the_connection_and_not_the_server() -> None:
    with serving(Echo()) as port:
        with connect(f"ws://127.0.0.1:{port}", proxy=None, compression=None) as connection:
            connection.recv(timeout=DEADLINE)
            with contextlib.suppress(ConnectionClosed):  # it may end while the message is on its way
                connection.send(bytes(1 << 20))
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=DEADLINE)
        client(port).close()


def certificate(folder: Path, openssl: str) -> tuple[Path, Path]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=DEADLINE)
    return cert, key


def test_tls_is_spoken_and_the_certificate_verified(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    cert, key = certificate(tmp_path, openssl)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with serving(Echo(), tls=context) as port:
        trusted = OpenpiSettings(Address("localhost", port, secure=True), ca_file=str(cert), timeout=DEADLINE)
        remote = OpenpiPolicy(trusted, CONTRACT, wait=DEADLINE)
        remote.reset(Instruction("a"))
        assert remote.predict(observation()).actions[0, 0] == 1.0
        remote.close()
        for settings in (
            OpenpiSettings(Address("localhost", port, secure=True)),
            OpenpiSettings(Address("127.0.0.1", port, secure=True), ca_file=str(cert)),
        ):
            with pytest.raises(CheckpointError, match="certificate verify failed"):
                OpenpiPolicy(settings, CONTRACT, wait=0.5)


@contextmanager
def served(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command itself, in a process; gives it and the address that it names."""
    command = [sys.executable, "-m", "vla_ros.cli.main", "serve", *words, "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        watchdog = threading.Timer(2.0 * DEADLINE, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert " at openpi://" in line, line
            yield process, line.split(" at ")[1].partition(";")[0]
        finally:
            process.kill()
            watchdog.cancel()


def test_command_serves_the_shipped_policy_and_ends_at_a_signal() -> None:
    from vla_ros.policies.local import LocalPolicy

    local = load_policy("pick", CONTRACT, "cpu")
    assert isinstance(local, LocalPolicy)
    images = {name: np.full((*size, 3), 90, np.uint8) for name, size in local.image_sizes.items()}
    instruction = Instruction("pick up the red cube")
    local.reset(instruction)
    expected = local.predict(observation(**images))
    with served("checkpoints/pick") as (process, address):
        remote = load_policy(address, CONTRACT)
        remote.reset(instruction)
        chunk = remote.predict(observation(**images))
        np.testing.assert_allclose(chunk.actions, expected.actions, rtol=1e-4, atol=1e-6)
        assert chunk.trust == pytest.approx(expected.trust, abs=1e-4)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
        remote.close()


OFFICIAL = """
import sys
import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy
client = WebsocketClientPolicy(sys.argv[1])
told = client.get_server_metadata()["vla_ros"]
request = {"prompt": "pick up the red cube"}
for camera in told["observation"]["cameras"].values():
    request[camera["key"][0]] = np.full((camera["height"], camera["width"], 3), 90, np.uint8)
request["observation/joint_position"] = np.linspace(-1, 1, 7)
request["observation/joint_velocity"] = np.linspace(0, 1, 7)
request["observation/ee_pose"] = np.array([0.5, 0.1, 0.3, 0.6, 0.0, 0.0, 0.8])
request["observation/gripper"] = np.array([0.03])
for _ in range(3):
    answer = client.infer(request)
print(answer["actions"].shape, answer["actions"].dtype, repr(float(answer["actions"][0, 3])))
try:
    client.infer({**request, "observation/gripper": np.zeros(3)})
except RuntimeError as error:
    print(error)
print(client.infer(request)["actions"].shape)
"""


def test_openpi_client_drives_the_shipped_policy() -> None:
    python = os.environ.get(PEER, "")
    if not python:
        pytest.skip(f"{PEER} names no interpreter that has openpi-client")
    local = load_policy("pick", CONTRACT, "cpu")
    images = {name: np.full((*size, 3), 90, np.uint8) for name, size in local.image_sizes.items()}
    local.reset(Instruction("pick up the red cube"))
    expected = [local.predict(observation(**images)) for _ in range(3)][-1]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with served("checkpoints/pick") as (_, address):
        uri = address.replace("openpi://", "ws://")
        done = subprocess.run(
            [python, "-c", OFFICIAL, uri], env=clean, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    shape, value = lines[0].rsplit(" ", 1)
    assert shape == "(12, 7) float64"
    assert float(value) == pytest.approx(expected.actions[0, 3], abs=1e-4)
    assert "ObservationError: observation/gripper: got float64 (3,), expected 1 numbers" in done.stdout
    assert lines[-1] == "(12, 7)"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("serve nosuch", "no checkpoint 'nosuch'"),
        ("serve openpi://host", "is a server already"),
        ("serve pick --host 0.0.0.0", "open to the network: name a --token-file, or say --without-token"),
        ("serve pick --certificate a.pem", "TLS needs both"),
        ("serve pick --certificate /no.pem --key /no.pem", "No such file"),
        ("serve pick --token-file /no/token", "token file /no/token"),
        ("serve pick --port 70000", "at most 65535"),
    ],
)
def test_wrong_usage_is_one_sentence(
    words: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLA_ROS_OPENPI_TOKEN", raising=False)
    assert main(words.split()) == 2
    assert says in capsys.readouterr().err
