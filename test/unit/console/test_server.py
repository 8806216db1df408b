"""The server with real WebSocket clients; the graph behind it is a table of what was asked for."""

import json
import threading
import time
from contextlib import contextmanager, suppress
from http.client import HTTPConnection

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from vla_ros.console.errors import ConsoleError
from vla_ros.console.estop_line import EstopLine
from vla_ros.console.images import HEADER, UNSHOWN
from vla_ros.console.link import Answer, Frame
from vla_ros.console.server import ConsoleOptions, ConsoleServer

DEADLINE = 60.0
TOKEN = "a-token-that-is-long-enough"
ARM, STOP = {"type": "arm"}, {"type": "estop"}


class Graph:
    """Remembers what it is asked for; each answer waits for `go`."""

    robot, cameras, records = "panda", ("front", "wrist"), True

    def __init__(self):
        self.asked, self.shown, self.numbers = [], frozenset(), {"front": 1, "wrist": 1}
        self.go, self.may_report = threading.Event(), threading.Event()
        self.go.set()
        self.may_report.set()

    def status(self):
        self.may_report.wait(DEADLINE)
        return {"safety": None}

    def show(self, cameras):
        self.shown = frozenset(cameras)

    def frame(self, camera):
        return Frame(self.numbers[camera], f"image {self.numbers[camera]} of {camera}".encode())

    def _answer(self, what):
        self.asked.append(what)
        return Answer(self.go.wait(DEADLINE), f"did {what}")

    def instruct(self, text):
        return self._answer(text)

    def arm(self):
        return self._answer("arm")

    def disarm(self):
        return self._answer("disarm")

    def reset(self):
        return self._answer("reset")

    def start_recording(self):
        return self._answer("start")

    def end_recording(self, success, keep):
        return self._answer(("end", success, keep))


class Console:
    """A server on free ports, with what its button has said."""

    def __init__(self, *, page_timeout=0.0, **options):
        self.graph, self.sent, self.said = Graph(), [], threading.Condition()
        self.line = EstopLine(self.publish, page_timeout)
        self.server = ConsoleServer(self.graph, self.line, ConsoleOptions(port=0, **options))
        self.server.start()

    def publish(self, pressed):
        with self.said:
            self.sent.append(pressed)
            self.said.notify_all()

    def wait_for_press(self):
        with self.said:
            return self.said.wait_for(lambda: True in self.sent, DEADLINE)

    @property
    def place(self):
        return f"127.0.0.1:{self.server.port}"

    def close(self):
        self.graph.may_report.set()
        self.graph.go.set()
        self.server.close()


class Page:
    """A page, as a browser would be one."""

    def __init__(self, address, token="", **options):
        self.socket = connect(address, open_timeout=DEADLINE, proxy=None, **options).__enter__()  # until `close`
        self.send({"type": "hello", "token": token, "name": "Anna"})

    def send(self, message):
        self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    def wait(self, kind, condition=lambda message: True):
        end = time.monotonic() + DEADLINE
        while True:
            message = json.loads(self.socket.recv(timeout=max(0.0, end - time.monotonic())))
            if message["type"] == kind and condition(message):
                return message

    def ask(self, message):
        self.send(message)
        return self.wait("answer")

    def take(self):
        number = self.wait("welcome")["page"]
        self.send({"type": "take"})
        self.wait("status", lambda status: status["command"]["page"] == number)

    def why_closed(self):
        with pytest.raises(ConnectionClosed) as caught:
            self.read()
        return caught.value.rcvd

    def read(self):
        while True:
            self.socket.recv(timeout=DEADLINE)

    def flood(self):
        for _ in range(100_000):
            self.send({"type": "release"})

    def kill(self):
        """End as a browser does that is killed: without a word."""
        self.socket.socket.shutdown(2)
        self.socket.close()


@contextmanager
def console_with(**options):
    console, pages = Console(**options), []

    def page(path="pages", port=0, **more):
        place = f"127.0.0.1:{port}" if port else console.place
        pages.append(Page(f"ws://{place}/{path}", **more))
        return pages[-1]

    try:
        yield console, page
    finally:
        for one in pages:
            one.socket.close()
        console.close()


@pytest.fixture
def running():
    with console_with() as found:
        yield found


def get(console, path, **headers):
    connection = HTTPConnection(console.place, timeout=DEADLINE)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def test_the_page_is_served_and_not_to_other_sites(running):
    console, _ = running
    code, headers, text = get(console, "/")
    assert code == 200
    assert "EMERGENCY STOP" in text
    assert headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    for path in ("/console.js", "/plots.js", "/console.css", "/icon.svg"):
        assert get(console, path)[0] == 200
    assert get(console, "/server.py")[0] == 404
    assert get(console, "/../server.py")[0] == 404
    assert get(console, "/", Host="evil.example")[0] == 403


def test_a_page_of_another_site_gets_no_connection(running):
    console, page = running
    for path, port in (("pages", 0), ("images", 0), ("estop", console.server._estop.port)):
        with pytest.raises(InvalidStatus, match="403"):
            page(path, port, origin="http://evil.example")


@pytest.mark.parametrize("path", ["pages", "images", "estop"])
def test_a_wrong_token_gets_nothing(path):
    with console_with(token=TOKEN) as (console, page):
        port = console.server._estop.port if path == "estop" else 0
        for wrong in ("", TOKEN[:-1]):
            assert page(path, port, token=wrong).why_closed().code == 4401
        stranger = page(path, port, token="x")
        with suppress(ConnectionClosed):
            stranger.send({"type": "press"})
            stranger.send(STOP)
        assert stranger.why_closed().code == 4401
        assert True not in console.sent
        assert console.server.pages == 0


def test_the_right_token_comes_in():
    with console_with(token=TOKEN) as (console, page):
        assert page(token=TOKEN).wait("welcome")["robot"] == "panda"
        assert console.server.address.endswith(f"#token={TOKEN}")


def test_nothing_is_heard_of_the_network_without_a_token():
    with pytest.raises(ConsoleError, match="without a token"):
        Console(host="0.0.0.0")


def test_a_port_that_is_taken_is_named(running):
    console, _ = running
    with pytest.raises(ConsoleError, match=f"{console.server.port}.*another port"):
        ConsoleServer(console.graph, console.line, ConsoleOptions(port=console.server.port))


def test_one_page_commands_and_the_others_learn_which(running):
    console, page = running
    first, second = page(), page()
    first.take()
    title = second.wait("status", lambda status: status["command"]["page"])["command"]["title"]
    assert title.startswith("page 1 (Anna")
    for request in (ARM, {"type": "instruct", "text": "pick up the cube"}, {"type": "reset", "presses": 0}):
        answer = second.ask(request)
        assert not answer["done"]
        assert title in answer["text"]
    assert title in second.ask({"type": "take"})["text"]
    assert console.graph.asked == []
    assert first.ask(ARM) == {"type": "answer", "to": "arm", "done": True, "text": "did arm"}


def test_nobody_commands_before_taking_the_command(running):
    console, page = running
    assert "nobody commands" in page().ask(ARM)["text"]
    assert console.graph.asked == []


def test_the_command_is_free_again_when_its_page_is_killed(running):
    console, page = running
    first, second = page(), page()
    first.take()
    first.kill()
    second.wait("status", lambda status: status["command"]["page"] is None)
    second.send({"type": "take"})
    second.wait("status", lambda status: status["command"]["page"] == 2)
    assert second.ask({"type": "instruct", "text": "push the ball"})["done"]
    assert console.graph.asked == ["push the ball"]
    assert True not in console.sent


def test_every_page_may_stop(running):
    console, page = running
    first, second = page(), page()
    first.take()
    assert second.ask({"type": "hold"})["text"] == "did stop"
    assert second.ask({"type": "disarm"})["text"] == "did disarm"
    second.send(STOP)
    assert console.wait_for_press()
    said = first.wait("events", lambda message: message["events"][-1]["what"] == "estop")["events"][-1]
    assert said["who"].startswith("page 2")


def test_what_was_asked_for_and_the_answers_are_remembered(running):
    _, page = running
    first = page()
    first.take()
    first.ask({"type": "instruct", "text": "<b>pick</b>"})
    late = page().wait("events", lambda message: message["events"])["events"]
    event = next(one for one in late if one["what"] == "instruct")
    assert (event["text"], event["done"], event["answer"]) == ("<b>pick</b>", True, "did <b>pick</b>")


def test_a_stop_does_not_wait_for_a_task(running):
    console, page = running
    console.graph.go.clear()
    first = page()
    first.take()
    for number in range(3):
        first.send({"type": "instruct", "text": f"task {number}"})
    first.send(ARM)
    first.send({"type": "instruct", "text": "one too many"})
    assert "3 of it under way" in first.wait("answer")["text"]
    first.send({"type": "hold"})
    end = time.monotonic() + DEADLINE
    while "stop" not in console.graph.asked:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_instruction_that_fails_is_answered(running):
    console, page = running
    console.graph.arm = lambda: 1 / 0
    first = page()
    first.take()
    assert "ZeroDivisionError" in first.ask(ARM)["text"]


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"type": "drive"}', '{"type": "arm", "now": true}'])
def test_bad_requests_are_answered_and_the_page_stays(running, text):
    _, page = running
    first = page()
    assert not first.ask(text)["done"]
    assert not first.ask(text)["done"]


@pytest.mark.parametrize(("content", "code"), [(b"\x00\x01", 4400), ("x" * 9000, 1009)], ids=["binary", "too large"])
def test_what_is_no_request_ends_the_connection(running, content, code):
    console, page = running
    first = page()
    first.wait("welcome")
    first.send(content)
    assert first.why_closed().code == code
    page().wait("status", lambda status: status["command"]["pages"] == 1)
    assert console.graph.asked == []


def test_a_page_that_floods_is_cut_off(running):
    _, page = running
    flooding, other = page(), page()
    with pytest.raises(ConnectionClosed) as caught:
        flooding.flood()
    assert caught.value.rcvd is None or caught.value.rcvd.code == 4429
    assert other.ask({"type": "hold"})["done"]


def test_a_page_that_reads_nothing_is_cut_off(running):
    console, page = running
    stuck, other = page(max_queue=1), page()
    other.wait("status", lambda status: status["command"]["pages"] == 2)
    other.wait("status", lambda status: status["command"]["pages"] == 1)
    assert other.ask({"type": "hold"})["done"]
    assert stuck.why_closed() is None or console.server.pages == 1


def test_a_first_message_that_is_no_hello_ends_it(running):
    console, _ = running
    with connect(f"ws://{console.place}/pages", proxy=None) as socket:
        socket.send(json.dumps(STOP))
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(timeout=DEADLINE)
    assert caught.value.rcvd.code == 4400
    assert True not in console.sent


def test_the_estop_acts_while_the_server_of_the_pages_hangs(running):
    console, page = running
    button = page("estop", console.server._estop.port)
    page().wait("welcome")
    console.graph.may_report.clear()  # the event loop of the pages waits in the next status
    button.send({"type": "press"})
    assert console.wait_for_press()
    assert json.loads(button.socket.recv(timeout=DEADLINE))["pressed"]


def test_the_button_speaks_all_the_time(running):
    console, _ = running
    with console.said:
        assert console.said.wait_for(lambda: console.sent.count(False) > 3, DEADLINE)


def test_nobody_resets_a_press_that_was_not_seen(running):
    console, page = running
    first = page()
    first.take()
    console.line.press("a")
    assert "pressed again" in first.ask({"type": "reset", "presses": 0})["text"]
    assert console.graph.asked == []
    assert first.ask({"type": "reset", "presses": 1})["done"]
    assert console.graph.asked == ["reset"]
    assert not console.line.state()["pressed"]


def test_a_killed_page_in_command_is_a_stop_if_so_configured():
    with console_with(page_timeout=60.0) as (console, page):
        first = page()
        first.take()
        first.kill()
        assert console.wait_for_press()
        assert "page 1 (Anna" in console.line.state()["why"]


def test_a_silent_page_in_command_is_a_stop_if_so_configured():
    with console_with(page_timeout=0.5) as (console, page):
        page().take()
        assert console.wait_for_press()
        assert "said nothing" in console.line.state()["why"]


def test_a_page_that_gives_the_command_back_may_go():
    with console_with(page_timeout=60.0) as (console, page):
        first = page()
        first.take()
        first.send({"type": "release"})
        first.wait("status", lambda status: status["command"]["page"] is None)
        first.kill()
        page().wait("status", lambda status: status["command"]["pages"] == 1)
        assert True not in console.sent


def test_a_console_that_only_shows(running):
    with console_with(view_only=True) as (console, page):
        first = page()
        welcome = first.wait("welcome")
        assert welcome["estop_port"] is None
        assert not welcome["records"]
        for request in (STOP, ARM, {"type": "take"}, {"type": "hold"}):
            assert "only shows" in first.ask(request)["text"]
        first.wait("status", lambda status: status["estop"] is None)
        assert console.sent == []


def images(viewer, count):
    return [HEADER.unpack_from(viewer.socket.recv(timeout=DEADLINE)) for _ in range(count)]


def test_a_slow_viewer_gets_the_newest_image(running):
    console, page = running
    viewer = page("images")
    viewer.send({"type": "show", "cameras": ["front"]})
    for number in range(2, UNSHOWN + 1):
        assert images(viewer, 1) == [(0, number - 1)]
        console.graph.numbers["front"] = number
    assert images(viewer, 1) == [(0, UNSHOWN)]
    other = page("images")
    other.send({"type": "show", "cameras": ["front"]})
    for number in range(UNSHOWN + 1, UNSHOWN + 5):  # the first viewer shows nothing meanwhile, the other does
        console.graph.numbers["front"] = number
        while images(other, 1) != [(0, number)]:
            other.send({"type": "shown"})
        other.send({"type": "shown"})
    viewer.send({"type": "shown"})
    assert images(viewer, 1) == [(0, UNSHOWN + 4)]


def test_only_what_is_shown_is_decoded(running):
    console, page = running
    viewer = page("images")
    viewer.send({"type": "show", "cameras": ["wrist"]})
    assert images(viewer, 1)[0][0] == 1
    assert console.graph.shown == {"wrist"}
    viewer.socket.close()
    end = time.monotonic() + DEADLINE
    while console.graph.shown:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_cameras_that_are_not_there_end_the_connection(running):
    _, page = running
    viewer = page("images")
    viewer.send({"type": "show", "cameras": ["../front"]})
    assert viewer.why_closed().code == 4400
