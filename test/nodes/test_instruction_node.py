"""The instruction node over real ROS topics, as a process of its own in a domain of its own.

It runs on simulation time while nobody publishes a clock, as when the simulation is paused: the rate must not care.
"""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from vla_ros.bringup.runner import GraphRunner
from vla_ros.client.observer import Observer
from vla_ros.client.operator_client import Operator
from vla_ros.client.saying import say
from vla_ros.msg import Instruction, InstructionRequest, InstructionStatus
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.messages.conversions import stamp_to_seconds
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVATE, DEACTIVATE, GraphError, LifecycleClient

NAME = "instruction_node"
DEADLINE = 30.0
RATE = 4.0
BURST = 1000
MEBIBYTE = 2**20


def node_alone(folder, **parameters):
    """The shipped graph, reduced to the instruction node, with these parameters added."""
    graph = load_graph()
    node = next(node for node in graph.nodes if node.name == NAME)
    node = replace(node, parameters={**node.parameters, "use_sim_time": True, **parameters})
    return GraphRunner(graph=Graph(graph.arguments, (node,)), folder=folder)


class Desk:
    """Sends instructions and keeps every answer, from the first one on."""

    def __init__(self, runner):
        self.runner, self.node = runner, runner.node
        self.change = threading.Condition()
        self.tasks, self.refusals, self.reports = [], [], []
        self.node.create_subscription(Instruction, "/vla/task", self.keep(self.tasks), qos("task"))
        self.node.create_subscription(String, "/vla/instruction_rejected", self.keep(self.refusals), qos("instruction"))
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.keep(self.reports), qos("diagnostics"))
        self.answers = []
        status = qos("task")  # deeper than it is published
        self.node.create_subscription(InstructionStatus, "/vla/instruction_status", self.keep(self.answers), status)
        self.publisher = self.node.create_publisher(String, "/vla/instruction", qos("instruction"))
        requests = "/vla/instruction_request"
        self.requests = self.node.create_publisher(InstructionRequest, requests, qos("instruction"))
        self.connect()

    def keep(self, into):
        def take(message):
            with self.change:
                into.append(message)
                self.change.notify_all()

        return take

    def connect(self):
        """Wait until both directions are matched: what is sent before is lost."""
        graph = (
            self.publisher.get_subscription_count,
            self.requests.get_subscription_count,
            lambda: self.node.count_publishers("/vla/task"),
            lambda: self.node.count_publishers("/vla/instruction_rejected"),
        )
        end = time.monotonic() + DEADLINE
        while not all(count() for count in graph):
            assert time.monotonic() < end, "the node was not discovered"
            time.sleep(0.01)

    def send(self, text):
        self.publisher.publish(String(data=text))

    def wait_for(self, condition):
        with self.change:
            assert self.change.wait_for(condition, DEADLINE), self.describe()

    def describe(self):
        log = self.runner.process(NAME).last_lines()
        return f"{[task.text for task in self.tasks[-5:]]}, {[r.data for r in self.refusals[-5:]]}\n{log}"

    def ask(self, text, expected=None):
        """Send `text` and return the task that it became."""
        before = len(self.tasks)
        self.send(text)
        expected = text if expected is None else expected
        self.wait_for(lambda: any(task.text == expected for task in self.tasks[before:]))
        return self.tasks[-1]

    def request(self, request_id, text):
        self.requests.publish(InstructionRequest(id=request_id, text=text))

    def answer(self, request_id, since=0):
        """Wait for the answer to a request among the statuses from number `since` on."""
        self.wait_for(lambda: any(status.request_id == request_id for status in self.answers[since:]))
        return next(status for status in self.answers[since:] if status.request_id == request_id)

    def stops(self, since):
        """The STOPs among the tasks from number `since` on."""
        return [task for task in self.tasks[since:] if task.kind == Instruction.STOP]

    def own_bytes(self):
        """Resident memory of the node's process, without what it maps of others: their segments of shared memory."""
        status = Path(f"/proc/{self.runner.process(NAME).pid}/status").read_text(encoding="ascii")
        return int(status.split("RssAnon:")[1].split()[0]) * 1024


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with node_alone(tmp_path_factory.mktemp("instruction"), max_rate=RATE) as runner:
        yield Desk(runner)


def test_a_sentence_becomes_a_task_in_normal_form_with_the_first_number(desk):
    task = desk.ask("  Pick UP\tthe ｒｅｄ   cube.\n", "pick up the red cube.")
    assert (task.sequence, task.kind) == (1, Instruction.TASK)


def test_numbers_rise_by_one_and_who_joins_late_learns_the_newest_task_last(desk):
    first = desk.ask("pick up the blue cube")
    second = desk.ask("pick up the green cube")
    assert second.sequence == first.sequence + 1
    late = []
    subscription = desk.node.create_subscription(Instruction, "/vla/task", desk.keep(late), qos("task"))
    desk.wait_for(lambda: late and late[-1].sequence == second.sequence)
    desk.node.destroy_subscription(subscription)
    assert len(late) <= qos("task").depth
    assert [task.sequence for task in late] == sorted(task.sequence for task in late)


def test_a_task_carries_the_time_of_the_robot(desk):
    assert stamp_to_seconds(desk.ask("pick up the red ball").header.stamp) == 0.0, "no clock has ticked yet"
    clock = desk.node.create_publisher(Clock, "/clock", qos("task"))  # latched: it reaches whoever is found later
    message = Clock()
    message.clock.sec, message.clock.nanosec = 42, 500_000_000
    clock.publish(message)
    end = time.monotonic() + DEADLINE
    while stamp_to_seconds(desk.ask("pick up the red ball").header.stamp) != 42.5:
        clock.publish(message)
        assert time.monotonic() < end


@pytest.mark.parametrize("text", ["stop!", "STOP.", "please stop", "halt now", "emergency stop", "st\u200bop"])
def test_a_stop_does_not_wait_for_its_turn(desk, text):
    before, began = len(desk.tasks), time.monotonic()
    for sent in ("pick up the red cube", "pick up the blue cube", text, text):
        desk.send(sent)
    desk.wait_for(lambda: len(desk.stops(before)) == 2)
    most = int((time.monotonic() - began) * RATE) + 1  # one, unless this process was held up
    first = desk.tasks.index(desk.stops(before)[0])
    assert first - before <= most, "the second task had to wait, the stop behind it had not"
    assert desk.tasks[first + 1].sequence == desk.tasks[first].sequence + 1


def test_a_task_from_before_a_stop_does_not_come_after_it(desk):
    before = len(desk.tasks)
    for sent in ("pick up the red cube", "pick up the blue cube", "stop"):
        desk.send(sent)
    desk.wait_for(lambda: desk.stops(before))
    reports = len(desk.reports)
    # Two reports lie a second apart on the node's own clock: four times the wait of a task.
    desk.wait_for(lambda: sum(level_of(report) is not None for report in desk.reports[reports:]) >= 2)
    assert desk.tasks[-1].kind == Instruction.STOP


def test_a_stop_word_inside_a_task_stops_nothing(desk):
    assert desk.ask("put the block next to the bus stop").kind == Instruction.TASK


def test_a_stop_that_is_refused_as_a_sentence_is_still_a_stop(desk):
    before = len(desk.tasks)
    desk.send("stop " + "x" * 10_000)
    desk.send("stop\x07")
    desk.wait_for(lambda: len(desk.tasks) >= before + 2)
    assert [(task.kind, task.text) for task in desk.tasks[before:]] == [(Instruction.STOP, "stop")] * 2


BAD = {
    "empty": ("", "is empty"),
    "blank": (" \n ", "is empty"),
    "huge": ("pick up the cube " * 300_000, "at least 5100000 bytes, expected at most 512"),
    "too long": ("é" * 257, "at least 514 bytes, expected at most 512"),
    "control": ("pick\x1b[2Jup", "control character (U+001B)"),
    "invisible": ("pick \N{RIGHT-TO-LEFT OVERRIDE}up", "invisible formatting character (U+202E)"),
    "not UTF-8": (b"pick \xff\xfe up", "not UTF-8"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_used_is_answered_logged_reported_and_survived(desk, what):
    text, reason = BAD[what]
    accepted = desk.ask("pick up the red cube")
    refusals = len(desk.refusals)
    if isinstance(text, bytes):
        blank = serialize_message(String(data="#" * len(text)))
        desk.publisher.publish(blank.replace(b"#" * len(text), text))
    else:
        desk.send(text)
    desk.wait_for(lambda: len(desk.refusals) > refusals)
    answer = desk.refusals[-1].data
    assert reason in answer
    assert len(answer) < 300
    reports = len(desk.reports)
    desk.wait_for(lambda: any(is_warned(report, answer) for report in desk.reports[reports:]))
    assert f"refused: {answer}" in desk.runner.process(NAME).log_path.read_text(encoding="utf-8")
    again = desk.ask("pick up the red cube")
    assert again.sequence == accepted.sequence + 1, "a refused sentence takes no number"
    reports = len(desk.reports)
    desk.wait_for(lambda: any(level_of(report) == DiagnosticStatus.OK for report in desk.reports[reports:]))


def test_a_request_is_answered_with_its_number(desk):
    desk.request("first", "Pick up the RED cube")
    answer = desk.answer("first")
    task = next(task for task in desk.tasks if task.request_id == "first")
    assert (task.text, task.kind) == ("pick up the red cube", Instruction.TASK)
    assert (answer.request_accepted, answer.request_sequence, answer.sentence) == (True, task.sequence, "")


def test_a_repeated_request_is_answered_again_and_is_one_task(desk):
    for _ in range(5):
        desk.request("repeated", "pick up the red cube")
    first = desk.answer("repeated")
    desk.ask("pick up the blue cube")
    since = len(desk.answers)
    desk.request("other", "pick up the green cube")
    desk.answer("other", since)
    since = len(desk.answers)
    desk.request("repeated", "pick up the red cube")
    assert desk.answer("repeated", since).request_sequence == first.request_sequence
    assert [task.request_id for task in desk.tasks].count("repeated") == 1


def test_a_repeated_stop_is_a_stop_each_time(desk):
    """Whoever gives all of its requests one id must still be able to stop."""
    before = len(desk.tasks)
    for text in ("pick up the red cube", "stop", "pick up the red cube", "stop", "please stop"):
        desk.request("constant", text)
    desk.wait_for(lambda: len(desk.stops(before)) == 3)
    assert desk.tasks[-1].kind == Instruction.STOP


def test_a_request_that_cannot_be_used_is_answered_with_the_reason(desk):
    for request_id, text, reason in (
        ("blank", "  ", "is empty"),
        ("blank", "pick up the cube", "belongs to another sentence"),
        ("", "pick up the red cube", "has no id"),
    ):
        since = len(desk.answers)
        desk.request(request_id, text)
        desk.wait_for(lambda since=since, reason=reason: any(reason in one.sentence for one in desk.answers[since:]))
        answer = next(one for one in desk.answers[since:] if reason in one.sentence)
        assert (answer.request_id, answer.request_accepted) == (request_id, False)


def test_a_request_that_lost_its_turn_is_told_so(desk):
    desk.ask("pick up the red cube")
    desk.request("lost", "pick up the blue cube")
    desk.request("kept", "pick up the green cube")
    assert desk.answer("kept").request_accepted
    assert "newer sentence" in desk.answer("lost").sentence
    assert "lost" not in [task.request_id for task in desk.tasks]


def test_the_heart_beats_while_simulation_time_stands_still(desk):
    since = len(desk.answers)
    desk.wait_for(lambda: len(desk.answers) > since + 10)
    beats = [status.beat for status in desk.answers[since:]]
    assert beats == sorted(set(beats))


def test_a_stop_that_no_safety_layer_has_heard_is_not_called_one(desk):
    observer = Observer(desk.node)
    said = say(Operator(desk.node, observer), observer, "stop", 2.0)
    assert (said.accepted, said.acknowledged_by_safety_node, said.done) == (True, False, False)
    assert "NOT confirmed by the safety layer" in "\n".join(said.sentences(2.0))


def level_of(report):
    return next((status.level for status in report.status if status.name == NAME), None)


def is_warned(report, sentence):
    return any(
        status.name == NAME and status.level == DiagnosticStatus.WARN and status.message == sentence
        for status in report.status
    )


def flood(desk, texts):
    """Send all at once and return what was published until the last one was, and the most that the rate allows."""
    before, began = len(desk.tasks), time.monotonic()
    for text in texts:
        desk.send(text)
    desk.wait_for(lambda: len(desk.tasks) > before and desk.tasks[-1].text == texts[-1])
    elapsed = time.monotonic() - began
    return desk.tasks[before:], int(elapsed * RATE) + 1


def test_a_flood_publishes_the_newest_within_the_rate(desk):
    published, most = flood(desk, [f"pick up cube {number}" for number in range(BURST)])
    assert len(published) <= most
    numbers = [int(task.text.split()[-1]) for task in published]
    assert numbers == sorted(numbers)
    assert numbers[-1] == BURST - 1
    sequence = [task.sequence for task in published]
    assert sequence == list(range(sequence[0], sequence[0] + len(published)))


def test_a_flood_keeps_memory_bounded_by_the_depth_of_the_topic(desk):
    huge, each, rounds = "pick up the cube " * 60_000, 20, 8
    before = desk.own_bytes()
    for tag in "abcdefgh":
        flood(desk, [f"pick {number} of {tag} {'x' * 400}" for number in range(BURST)])
        for _ in range(each):
            desk.send(huge)
        desk.ask(f"pick up cube {tag}")
    # The middleware keeps a buffer as large as the largest message for each place in the queue, and no more.
    allowed = qos("instruction").depth * len(huge) + 16 * MEBIBYTE
    assert allowed < rounds * each * len(huge) / 3, "what went through is far more than what may stay"
    assert desk.own_bytes() - before < allowed


def test_a_flood_of_refused_ones_is_answered_within_its_own_rate(desk):
    before, began = len(desk.refusals), time.monotonic()
    for number in range(BURST):
        desk.send(f"\x07 {number}")
    desk.wait_for(lambda: desk.refusals[before:] and f"\\x07 {BURST - 1}'" in desk.refusals[-1].data)
    assert len(desk.refusals) - before <= int((time.monotonic() - began) * 5.0) + 1


def test_a_stop_in_a_flood_is_not_lost_while_the_queue_of_the_topic_holds_it(desk):
    behind = qos("instruction").depth - 1  # one more could overwrite it before the node had a chance
    before = [f"pick up cube {number}" for number in range(BURST - behind - 1)]
    published, _ = flood(desk, [*before, "stop!", *(f"pick up ball {number}" for number in range(behind))])
    assert Instruction.STOP in [task.kind for task in published]


def test_an_inactive_node_hears_nothing_and_goes_on_counting_afterwards(desk):
    last = desk.ask("pick up the red cube")
    lifecycle = LifecycleClient(desk.node)
    lifecycle.change(NAME, DEACTIVATE, DEADLINE)
    end = time.monotonic() + DEADLINE
    while desk.publisher.get_subscription_count():
        assert time.monotonic() < end, "an inactive node still listens"
        time.sleep(0.01)
    desk.send("pick up the blue cube")
    lifecycle.change(NAME, ACTIVATE, DEADLINE)
    desk.connect()
    task = desk.ask("pick up the green cube")
    assert task.sequence == last.sequence + 1


@pytest.mark.parametrize("rate", [0.0, -1.0, 1e9, float("nan")])
def test_a_rate_out_of_range_is_refused(tmp_path, rate):
    with pytest.raises(GraphError, match=r"max_rate.*expected 0\.1 to 50\.0"):
        node_alone(tmp_path, max_rate=rate).start()
