"""The operator console as a node of a graph with the real safety and instruction nodes; the test plays robot and pages.

A page is a real WebSocket client; the console, the safety node and the instruction node are processes of their own.
"""

from __future__ import annotations

import io
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from PIL import Image as Picture
from std_msgs.msg import Bool
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vla_ros.bringup.runner import GraphRunner
from vla_ros.console.images import HEADER
from vla_ros.msg import ActionChunk, Instruction, Observation, PolicyStatus
from vla_ros.recording.bag import BagReader
from vla_ros.robot.contract import load_contract
from vla_ros.ros.graph.description import Graph, Value, load_graph
from vla_ros.ros.messages.conversions import array_to_image
from vla_ros.ros.qos import qos

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path, not from their folder
from test_safety_node import DEADLINE, Cell

CONSOLE = "console_node"
TASK = "pick up the red cube"
PAGES = 100
CONTRACT = load_contract("panda")
SCENE = np.kron(np.arange(12).reshape(3, 4, 1) * [20, 10, 5], np.ones((80, 80, 1))).astype(np.uint8)


def graph_with_console(folder: Path, **parameters: Value) -> GraphRunner:
    """The safety node, the instruction node and a console on free ports."""
    shipped = load_graph()
    own = {CONSOLE: {"port": 0, **parameters}}
    nodes = tuple(
        replace(node, restarts=0, parameters={**node.parameters, **own.get(node.name, {"use_sim_time": False})})
        for node in shipped.nodes
        if node.name in ("instruction_node", "safety_node", CONSOLE)
    )
    return GraphRunner(graph=Graph({**shipped.arguments, "console": True}, nodes), folder=folder)


class Page:
    """A page as a browser has one: the requests, the emergency stop and the images."""

    def __init__(self, place: str, token: str = "", *, whole: bool = True) -> None:
        """Connect; `whole`: with emergency stop and images."""
        self._place, self._token = place, token
        self.requests = self._open("pages")
        self.welcome = self.wait("welcome")
        self.estop = self.images = None
        if whole:
            host = place.rpartition(":")[0]
            self.estop = self._open("estop", f"{host}:{self.welcome['estop_port']}", key=self.welcome["key"])
            self.images = self._open("images")
            self.images.send(json.dumps({"type": "show", "cameras": self.welcome["cameras"]}))

    def _open(self, path: str, place: str = "", **hello: Any) -> Any:
        connection = connect(
            f"ws://{place or self._place}/{path}",
            proxy=None,
            open_timeout=DEADLINE,
            ping_interval=None,
            max_queue=None,
            close_timeout=1.0,
        ).__enter__()
        connection.send(json.dumps({"type": "hello", "token": self._token, "name": "Anna", **hello}))
        return connection

    def wait(self, kind: str, condition: Callable[[dict], Any] = lambda message: True) -> dict:
        end = time.monotonic() + DEADLINE
        while True:
            message = json.loads(self.requests.recv(timeout=max(0.0, end - time.monotonic())))
            if message["type"] == kind and condition(message):
                return message

    def ask(self, kind: str, **fields: Any) -> dict:
        self.requests.send(json.dumps({"type": kind, **fields}))
        return self.wait("answer")

    def take(self) -> None:
        self.requests.send(json.dumps({"type": "take"}))
        self.wait("status", lambda status: status["command"]["page"] == self.welcome["page"])

    def press(self) -> None:
        self.estop.send(json.dumps({"type": "press"}))

    def wait_for_safety(self, state: str) -> dict:
        found = self.wait("status", lambda status: status["safety"] and status["safety"]["state"] == state)
        return found["safety"]

    def kill(self) -> None:
        """End all connections without a word, as a browser does that is killed; again: nothing."""
        for one in filter(None, (self.requests, self.estop, self.images)):
            with suppress(OSError):
                one.socket.shutdown(socket.SHUT_RDWR)
            one.close()


class Workplace(Cell):
    """The robot and its cameras, with what was heard of the graph; it knows where the console is."""

    def __init__(self, runner: GraphRunner) -> None:
        super().__init__(runner)
        self.tasks: list[Instruction] = []
        self.buttons: list[bool] = []
        self.place = ""
        self._subscribe(Instruction, "/vla/task", self._on_task, "task")
        self._subscribe(Bool, "/vla/estop", self._on_button, "estop")
        self._subscribe(DiagnosticArray, "/diagnostics", self._on_health, "diagnostics")
        self.wait_for(lambda: bool(self.place) and bool(self.statuses))
        self.pages: list[Page] = []

    def page(self, **options: Any) -> Page:
        self.pages.append(Page(self.place, **options))
        return self.pages[-1]

    def close(self) -> None:
        for page in self.pages:
            page.kill()
        super().close()

    def _on_task(self, message: Instruction) -> None:
        with self.change:
            self.tasks.append(message)
            self.change.notify_all()

    def _on_button(self, message: Bool) -> None:
        with self.change:
            self.buttons.append(bool(message.data))
            self.change.notify_all()

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            for pair in status.values:
                if status.name == CONSOLE and pair.key == "address":
                    with self.change:
                        self.place = pair.value.removeprefix("http://").rstrip("/")
                        self.change.notify_all()


@contextmanager
def workplace_with(folder: Path, **parameters: Value) -> Iterator[Workplace]:
    with graph_with_console(folder, **parameters) as runner:
        workplace = Workplace(runner)
        try:
            yield workplace
        finally:
            workplace.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("console")
    with workplace_with(folder, record_folder=str(folder / "episodes")) as workplace:
        yield workplace


@pytest.fixture
def workplace(shared: Workplace) -> Iterator[Workplace]:
    """A robot that is disarmed and not stopped; the pages of the test before have gone."""
    yield shared
    while shared.pages:
        shared.pages.pop().kill()
    page = shared.page()
    page.wait("status", lambda status: status["command"] == {"page": None, "title": "", "pages": 1})
    page.take()
    page.ask("disarm")
    presses = page.wait("status")["estop"]["presses"]
    page.ask("reset", presses=presses)
    page.wait_for_safety("DISARMED")
    shared.pages.pop().kill()


def ready(page: Page) -> None:
    """Arm from the page as soon as the safety node has seen the robot."""
    end = time.monotonic() + DEADLINE
    while not (answer := page.ask("arm"))["done"]:
        assert time.monotonic() < end, answer


def test_an_instruction_reaches_the_policy(workplace: Workplace) -> None:
    page = workplace.page()
    page.take()
    answer = page.ask("instruct", text="Pick up   the RED cube")
    assert answer["done"], answer
    assert answer["text"].startswith("accepted as instruction")
    workplace.wait_for(lambda: bool(workplace.tasks) and workplace.tasks[-1].text == TASK)
    assert page.wait("status", lambda status: status["instruction"])["instruction"]["text"] == TASK


def test_a_refusal_comes_back_with_its_reason(workplace: Workplace) -> None:
    page = workplace.page()
    page.take()
    answer = page.ask("instruct", text="x" * 600)
    assert not answer["done"]
    assert "refused" in answer["text"]


def test_arm_hold_and_disarm(workplace: Workplace) -> None:
    page = workplace.page()
    page.take()
    page.ask("instruct", text=TASK)
    ready(page)
    page.wait("status", lambda status: status["safety"]["armed"])
    answer = page.ask("hold")
    assert answer["done"], answer
    assert "the safety layer has heard it" in answer["text"]
    assert page.ask("disarm")["done"]
    page.wait("status", lambda status: not status["safety"]["armed"])


def test_a_press_stops_and_a_reset_ends_it(workplace: Workplace) -> None:
    page = workplace.page()
    page.take()
    ready(page)
    page.press()
    stopped = page.wait_for_safety("ESTOP")
    assert stopped["reason"] == "estop_pressed"
    assert not stopped["armed"]
    assert not page.ask("reset", presses=0)["done"]
    presses = page.wait("status")["estop"]["presses"]
    assert page.ask("reset", presses=presses)["done"]
    page.wait_for_safety("DISARMED")


def test_any_of_two_pages_stops_and_one_commands(workplace: Workplace) -> None:
    first, second = workplace.page(), workplace.page()
    first.take()
    refused = second.ask("arm")
    assert not refused["done"]
    assert first.welcome["title"] in refused["text"]
    ready(first)
    second.press()
    first.wait_for_safety("ESTOP")


def test_a_killed_page_gives_the_command_back(workplace: Workplace) -> None:
    first, second = workplace.page(), workplace.page()
    first.take()
    ready(first)
    first.kill()
    second.wait("status", lambda status: status["command"]["page"] is None)
    second.take()
    assert second.wait("status")["safety"]["armed"], "the loss of a page stops nothing where it is not configured"
    assert second.ask("hold")["done"]


def test_a_hundred_pages_do_not_keep_the_stop(workplace: Workplace) -> None:
    page = workplace.page()
    page.take()
    ready(page)
    for number in range(PAGES):
        workplace.page(whole=number < PAGES // 10)
    page.wait("status", lambda status: status["command"]["pages"] == PAGES + 1)
    before = len(workplace.buttons)
    workplace.wait_for(lambda: len(workplace.buttons) > before + 5)  # the button speaks through all of it
    workplace.pages[1].press()
    workplace.wait_for_state("ESTOP")
    page.wait_for_safety("ESTOP")


def test_images_come_as_jpeg(workplace: Workplace) -> None:
    camera = CONTRACT.cameras[0]
    publisher = workplace._publisher(type(array_to_image(SCENE, 1.0, "")), camera.topic, qos("camera_out"))
    over = threading.Event()

    def show() -> None:
        while not over.wait(0.1):
            publisher.publish(array_to_image(SCENE, 1.0, camera.frame))

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        content = workplace.page().images.recv(timeout=DEADLINE)
    finally:
        over.set()
        thread.join()
    assert HEADER.unpack_from(content)[0] == 0
    image = np.asarray(Picture.open(io.BytesIO(content[HEADER.size :])))
    assert image.shape == SCENE.shape
    assert np.abs(image.astype(int) - SCENE).mean() < 5.0


def test_health_policy_and_numbers_that_are_none(workplace: Workplace) -> None:
    publisher = workplace._publisher(DiagnosticArray, "/diagnostics", qos("diagnostics"))
    workplace.heart = {"state": PolicyStatus.WAITING, "policy": "keypoint", "sentence": "waits", "trust": float("nan")}
    page = workplace.page()
    page.wait("status", lambda status: {"instruction_node", CONSOLE} <= {line["name"] for line in status["health"]})
    camera = DiagnosticStatus(name="perception_node: camera front", level=DiagnosticStatus.ERROR, message="no image")
    workplace.wait_until_heard(publisher)
    publisher.publish(DiagnosticArray(status=[camera, DiagnosticStatus(name="other_arm/safety_node")]))
    found = page.wait("status", lambda status: any("camera" in line["name"] for line in status["health"]))
    lines = {line["name"]: line for line in found["health"]}
    assert lines["perception_node: camera front"]["level"] == "error"
    assert "other_arm/safety_node" not in lines
    policy = page.wait("status", lambda status: status["policy"]["state"] == "WAITING")["policy"]
    assert (policy["name"], policy["sentence"], policy["confidence"]) == ("keypoint", "waits", None)
    workplace.heart = {"state": PolicyStatus.RUNNING}


def test_an_episode_is_recorded_with_its_mark(workplace: Workplace, shared: Workplace) -> None:
    folder = Path(shared.runner.folder) / "episodes"
    page = workplace.page()
    assert page.welcome["records"]
    page.take()
    assert "nothing is being recorded" in page.ask("end_recording", success=True, keep=True)["text"]
    page.ask("instruct", text=TASK)
    assert page.ask("start_recording")["done"]
    assert not page.ask("start_recording")["done"]
    over = threading.Event()
    observations = workplace._publisher(Observation, "/vla/observation", qos("observation"))
    workplace.wait_until_heard(observations)

    def play() -> None:
        number = 0
        while not over.wait(0.1):
            number += 1
            observations.publish(observation(number))
            workplace.chunks.publish(matching_chunk(workplace, number))

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    try:
        page.wait("status", lambda status: status["recording"] and status["recording"]["seconds"] > 2.0)
    finally:
        over.set()
        thread.join()
    answer = page.ask("end_recording", success=True, keep=True)
    assert answer["done"], answer
    assert "(success)" in answer["text"]
    reader = BagReader(folder)
    (episode,) = reader.episodes
    steps = list(reader.read(episode, images=False))
    assert steps[0].instruction == TASK
    assert steps[-1].success is True


def observation(number: int) -> Observation:
    message = Observation(sequence=number, camera_names=[c.name for c in CONTRACT.cameras], gripper_opening=0.04)
    message.header.stamp.sec, message.header.stamp.nanosec = 100 + number // 10, number % 10 * 100_000_000
    message.header.frame_id = CONTRACT.base_frame
    for camera in CONTRACT.cameras:
        scene = np.zeros((camera.policy_height, camera.policy_width, 3), np.uint8)
        message.images.append(array_to_image(scene, 100.0 + 0.1 * number, camera.frame))
    message.joint_names = list(CONTRACT.joints.names)
    message.joint_positions = list(map(float, CONTRACT.joints.home))
    message.joint_velocities = [0.0] * CONTRACT.joints.count
    message.end_effector.orientation.w = 1.0
    return message


def matching_chunk(workplace: Workplace, number: int) -> ActionChunk:
    return workplace.chunk(
        observation_stamp=100.0 + 0.1 * number,
        observation_sequence=number,
        instruction_sequence=int(workplace.tasks[-1].sequence),
    )


def test_a_lost_page_is_a_stop_if_so_configured_and_a_token_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-that-is-long-enough\n")
    token = {"token": "a-token-that-is-long-enough"}
    with workplace_with(tmp_path, page_timeout=10.0, token_file=str(tmp_path / "token")) as workplace:
        for wrong in ("", "another-token-that-is-long"):
            with pytest.raises(ConnectionClosed) as caught:
                workplace.page(token=wrong)
            assert caught.value.rcvd.code == 4401
        page = workplace.page(**token)
        page.take()
        ready(page)
        page.kill()
        workplace.wait_for_state("ESTOP")
        assert workplace.buttons[-1]


def test_a_console_that_is_killed_stops_the_robot(tmp_path: Path) -> None:
    with workplace_with(tmp_path) as workplace:
        page = workplace.page()
        page.take()
        ready(page)
        workplace.runner.process(CONSOLE).signal(signal.SIGKILL)
        workplace.wait_for_state("ESTOP")
