"""The action server over real rclpy: it and the instruction node are processes, the test is safety layer and judge."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from rclpy.action import ActionClient

from vla_ros.action import ExecuteInstruction
from vla_ros.bringup.runner import GraphRunner
from vla_ros.msg import Instruction, PolicyStatus, SafetyStatus, TaskStatus
from vla_ros.nodes.action.instruction_goal import End, InstructionGoal
from vla_ros.nodes.action_node import ACTION
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.messages.conversions import seconds_to_stamp
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVE, LifecycleClient

DEADLINE = 30.0
TASK = "pick up the red cube"


class Bystanders:
    """Safety layer, policy and judge, as the server hears them, and a client of the action."""

    def __init__(self, runner):
        self.runner, self.node = runner, runner.node
        self.change = threading.Condition()
        self.tasks, self.feedback = [], []
        make = self.node.create_publisher
        self.safety = make(SafetyStatus, "/vla/safety_status", qos("status"))
        self.policy = make(PolicyStatus, "/vla/policy_status", qos("status"))
        self.judge = make(TaskStatus, "/vla/task_status", qos("status"))
        self.node.create_subscription(Instruction, "/vla/task", self.keep(self.tasks), qos("task"))
        self.client = ActionClient(self.node, ExecuteInstruction, ACTION)
        self.state = SimpleNamespace(state=SafetyStatus.RUN, name="RUN", armed=True)
        self.node.create_timer(0.05, self.speak)
        assert self.client.wait_for_server(DEADLINE)

    def keep(self, into):
        def take(message):
            with self.change:
                into.append(message)
                self.change.notify_all()

        return take

    def speak(self):
        state = self.state
        self.safety.publish(
            SafetyStatus(state=state.state, state_name=state.name, armed=state.armed, sentence=f"in {state.name}")
        )

    def wait(self, condition):
        with self.change:
            assert self.change.wait_for(condition, DEADLINE)

    def repeat_until(self, publish, condition):
        end = time.monotonic() + DEADLINE
        while True:
            publish()
            with self.change:
                if self.change.wait_for(condition, 0.1):
                    return
            assert time.monotonic() < end

    def send(self, text=TASK, seconds=20):
        """Send a goal that is taken, and return its handle; the server may learn a little later that it is armed."""
        end = time.monotonic() + DEADLINE
        while not (handle := self.offer(text, seconds)).accepted:
            assert time.monotonic() < end, "the goal is never taken"
        return handle

    def offer(self, text=TASK, seconds=20):
        """Send a goal once and return its handle."""
        goal = ExecuteInstruction.Goal(instruction=text, time_limit=Duration(sec=seconds))
        take = self.keep(self.feedback)
        return self.result(self.client.send_goal_async(goal, lambda message: take(message.feedback)))

    def result(self, future):
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(DEADLINE), "no answer of the action server"
        return future.result()

    def try_once(self):
        """Offer a goal and say whether it was rejected; one that was taken is ended."""
        handle = self.offer()
        if handle.accepted:
            self.end_of(handle)
        return not handle.accepted

    def taken(self, since=0, text=TASK):
        """Wait until the graph has the task."""
        self.wait(lambda: any(t.text == text and t.kind == Instruction.TASK for t in self.tasks[since:]))

    def heard_policy(self, readers):
        """Wait until so many listen to the policy."""
        end = time.monotonic() + DEADLINE
        while self.policy.get_subscription_count() != readers:
            assert time.monotonic() < end, self.policy.get_subscription_count()
            time.sleep(0.05)

    def end_of(self, handle):
        answer = self.result(handle.get_result_async())
        return answer.status, answer.result


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    shipped = load_graph()
    nodes = tuple(node for node in shipped.nodes if node.name in ("instruction_node", "action_node"))
    alone = Graph({**shipped.arguments, "use_sim_time": False}, nodes)
    with GraphRunner(graph=alone, simulation="", folder=tmp_path_factory.mktemp("action")) as runner:
        yield Bystanders(runner)


@pytest.fixture
def bystanders(graph):
    graph.state = SimpleNamespace(state=SafetyStatus.RUN, name="RUN", armed=True)
    graph.feedback.clear()
    return graph


def test_success_is_what_the_judge_says(bystanders):
    since = len(bystanders.tasks)
    handle = bystanders.send("  Pick up the RED cube ")
    assert handle.accepted
    bystanders.taken(since)
    bystanders.judge.publish(TaskStatus(instruction="pick up the blue ball", success=True))  # of another task
    bystanders.policy.publish(PolicyStatus(state=PolicyStatus.RUNNING, trust=0.75))
    bystanders.heard_policy(1)
    halfway = TaskStatus(instruction=TASK, progress=0.5)
    told = ("RUN", "in RUN", 0.5, 0.75)
    # Again and again: the server may hear of the task a little later than this process.
    bystanders.repeat_until(
        lambda: bystanders.judge.publish(halfway),
        lambda: any((f.phase, f.sentence, f.progress, f.trust) == told for f in bystanders.feedback),
    )
    bystanders.judge.publish(TaskStatus(instruction=TASK, progress=1.0, success=True, detail="holds the red cube"))
    status, result = bystanders.end_of(handle)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert (result.success, result.reason, result.message) == (True, "done", "holds the red cube")
    bystanders.heard_policy(0)  # without a goal, it is nobody's business


def test_without_a_judge_it_runs_to_its_time_limit_and_the_arm_is_stopped(bystanders):
    since = len(bystanders.tasks)
    status, result = bystanders.end_of(bystanders.send(seconds=2))
    assert status == GoalStatus.STATUS_ABORTED
    assert (result.success, result.reason) == (False, "time_limit")
    bystanders.wait(lambda: any(t.kind == Instruction.STOP for t in bystanders.tasks[since:]))


def test_a_cancel_is_a_stop(bystanders):
    since = len(bystanders.tasks)
    handle = bystanders.send()
    bystanders.taken(since)
    cancel = handle.cancel_goal_async()
    bystanders.wait(lambda: any(t.kind == Instruction.STOP for t in bystanders.tasks[since:]))
    bystanders.state = SimpleNamespace(state=SafetyStatus.HOLD, name="HOLD", armed=True)
    assert bystanders.result(cancel).goals_canceling
    status, result = bystanders.end_of(handle)
    assert status == GoalStatus.STATUS_CANCELED
    assert (result.success, result.reason) == (False, "canceled")
    assert "HOLD" in result.message


def test_another_task_takes_its_place(bystanders):
    since = len(bystanders.tasks)
    first = bystanders.send()
    bystanders.taken(since)
    second = bystanders.send("pick up the blue ball")
    status, result = bystanders.end_of(first)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.reason == "superseded"
    bystanders.taken(since, "pick up the blue ball")
    bystanders.result(second.cancel_goal_async())
    bystanders.end_of(second)


@pytest.mark.parametrize(
    ("state", "name", "armed"), [(SafetyStatus.ESTOP, "ESTOP", True), (SafetyStatus.DISARMED, "DISARMED", False)]
)
def test_an_emergency_stop_or_a_disarmed_robot_ends_it(bystanders, state, name, armed):
    since = len(bystanders.tasks)
    handle = bystanders.send()
    bystanders.taken(since)
    bystanders.wait(lambda: any(f.phase == "RUN" for f in bystanders.feedback))
    bystanders.state = SimpleNamespace(state=state, name=name, armed=armed)
    status, result = bystanders.end_of(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.reason == "stopped"


def test_a_fault_of_the_policy_with_this_task_ends_it(bystanders):
    since = len(bystanders.tasks)
    handle = bystanders.send()
    bystanders.taken(since)
    number = next(t.sequence for t in bystanders.tasks[since:] if t.text == TASK)
    fault = PolicyStatus(state=PolicyStatus.FAULT, instruction_sequence=number, sentence="not taught 'cube'")
    end = time.monotonic() + DEADLINE
    answer = handle.get_result_async()
    while not answer.done() and time.monotonic() < end:
        bystanders.policy.publish(fault)
        time.sleep(0.05)
    assert answer.result().result.reason == "fault"
    assert answer.result().result.message == "not taught 'cube'"


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 5), ("   ", 5), ("pick\x07up", 5), (TASK, 0), (TASK, 100_000), ("a" * 512 + "é", 5)]
)
def test_what_cannot_be_a_task_is_rejected(bystanders, text, seconds):
    since = len(bystanders.tasks)
    try:
        handle = bystanders.offer(text, seconds)
    except AssertionError:  # raised by the message itself
        assert len(text) > 512
    else:
        assert not handle.accepted
    assert not [t for t in bystanders.tasks[since:] if t.kind == Instruction.TASK]


def test_a_goal_while_disarmed_is_rejected_at_once_and_said_nowhere(bystanders):
    since = len(bystanders.tasks)
    bystanders.state = SimpleNamespace(state=SafetyStatus.DISARMED, name="DISARMED", armed=False)
    rejected = []
    bystanders.repeat_until(lambda: rejected.append(bystanders.try_once()), lambda: rejected[-1])
    assert not bystanders.offer().accepted
    log = bystanders.runner.process("action_node").log_path.read_text(encoding="utf-8")
    assert "goal refused: the robot is not armed: in DISARMED" in log
    bystanders.state = SimpleNamespace(state=SafetyStatus.RUN, name="RUN", armed=True)
    handle = bystanders.send()
    bystanders.taken(since)
    bystanders.result(handle.cancel_goal_async())
    bystanders.end_of(handle)


def test_a_goal_after_the_instruction_node_was_started_again_is_followed(bystanders):
    """The new node counts from 1 again; its tasks are newer by their stamps."""
    for _ in range(2):
        since = len(bystanders.tasks)
        handle = bystanders.send()
        bystanders.taken(since)
        bystanders.result(handle.cancel_goal_async())
        bystanders.end_of(handle)
    runner = bystanders.runner
    before = runner.process("instruction_node").pid
    os.kill(before, signal.SIGKILL)
    end = time.monotonic() + DEADLINE
    while runner.process("instruction_node").pid == before:
        assert time.monotonic() < end, "nobody started it again"
        time.sleep(0.05)
    client = LifecycleClient(runner.node)
    while client.state("instruction_node", DEADLINE) != ACTIVE:
        assert time.monotonic() < end, "it is not active again"
        time.sleep(0.05)
    since = len(bystanders.tasks)
    handle = bystanders.send()
    bystanders.taken(since)
    assert bystanders.tasks[-1].sequence < bystanders.tasks[since - 1].sequence
    judge = TaskStatus(instruction=TASK, success=True, detail="holds the red cube")
    answer = handle.get_result_async()
    bystanders.repeat_until(lambda: bystanders.judge.publish(judge), answer.done)
    assert answer.result().result.reason == "done"


def test_a_task_that_comes_late_is_not_taken_for_a_newer_one():
    def task(sequence, stamp, text, kind=Instruction.TASK):
        message = Instruction(sequence=sequence, kind=kind, text=text)
        message.header.stamp = seconds_to_stamp(stamp)
        return message

    goal = InstructionGoal(TASK, 20.0, 0.0, 0.0, task(7, 10.0, "pick up the blue ball"))
    assert goal.must_say(0.0)
    goal.hear_task(task(6, 9.0, "stop", Instruction.STOP))
    goal.hear_task(task(7, 10.0, "pick up the blue ball"))
    assert (goal.sequence, goal.outcome) == (None, None)
    goal.hear_task(task(1, 11.0, TASK))  # of an instruction node that was started again
    assert goal.sequence == 1
    goal.hear_task(task(1, 11.0, TASK))
    assert goal.outcome is None
    goal.hear_task(task(2, 12.0, "pick up the blue ball"))
    assert goal.outcome.end is End.SUPERSEDED


def test_a_stop_as_a_goal_stops_and_is_no_goal(bystanders):
    since = len(bystanders.tasks)
    assert not bystanders.offer("STOP!").accepted
    bystanders.wait(lambda: any(t.kind == Instruction.STOP for t in bystanders.tasks[since:]))
