"""What all nodes of the package share: a managed life cycle, diagnostics, and a main that ends cleanly.

A node derives from `ManagedNode` and fills in `configure`, `activate`, `deactivate` and `cleanup`. What `configure` or
`activate` raise becomes a refused transition with the reason in the log, never a dead process.
"""

from __future__ import annotations

import faulthandler
import math
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy._rclpy_pybind11 import RCLError, RCLInvalidROSArgsError, UnknownROSArgsError
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from vla_ros.errors import ContractError, VlaError
from vla_ros.nodes.clock_on_demand import ClockOnDemand
from vla_ros.nodes.environment_check import require_domain
from vla_ros.nodes.executor import make_executor
from vla_ros.nodes.large_buffers import keep_large_buffers
from vla_ros.nodes.loopback import require_loopback_alone, udp_sockets
from vla_ros.nodes.process import follow_parent
from vla_ros.nodes.qos import qos

DIAGNOSTICS_PERIOD = 1.0
"""Seconds between two reports on /diagnostics."""

SPIN_TIMEOUT = 0.1
"""Longest time until a signal is noticed, s."""

END_GRACE = 3.0
"""A node that has not freed everything so long after the signal is ended the hard way, s."""

_ends_at: list[float] = []  # when this process is ended the hard way, s, steady clock, once a signal has come

CLOCK_PARAMETER = "use_sim_time"

MAX_SEED = 2**31 - 2
"""Greatest seed of a scene; Gazebo is given one more, as 32 bits with a sign."""

PACKAGE = "vla_ros"
"""`hardware_id` of a node that belongs to no robot in particular, and to no namespace."""

FAILURE_LOG_PERIOD = 5.0
"""A callback that keeps failing is logged this often, s."""


class ManagedNode(LifecycleNode):
    """A lifecycle node that reports its health once a second, whatever its state.

    Attributes:
        default_robot: Robot contract of a node that has one and is given none; "" for a node that has none.
        niceness: Of its process among others, -20 (first) to 19 (last).
    """

    default_robot: ClassVar[str] = ""
    niceness: ClassVar[int] = 0

    def __init__(self, name: str, **options: Any) -> None:  # noqa: ANN401 (those of rclpy.node.Node)
        """Create the node, unconfigured; `options` are those of `rclpy.node.Node`."""
        super().__init__(name, **options)
        self._clock_on_demand = ClockOnDemand(self)
        self._answer_every_transition()
        # rclpy asks the callback that was added last first: its own, which switches the clock, is not reached.
        self.add_on_set_parameters_callback(self._judge_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos("diagnostics"))
        # The steady clock: a simulation that stands still must not silence the report.
        self._diagnostics_timer = self.create_timer(
            DIAGNOSTICS_PERIOD, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self.active = self._configured = False
        self._changeable: set[str] = set()

    def get_clock(self) -> Clock:
        """Return the clock of the node, set to the newest time of a simulation: ask again for each reading."""
        self._clock_on_demand.update()
        return super().get_clock()

    def configure(self) -> None:
        """Read parameters and make what `activate` needs; raise to refuse."""

    def activate(self) -> None:
        """Begin to work; raise to refuse."""

    def deactivate(self) -> None:
        """Stop working; must bear to be called when `activate` failed half-way."""

    def cleanup(self) -> None:
        """Free what `configure` made; must bear to be called when it failed half-way, and twice."""

    def health(self) -> list[DiagnosticStatus]:
        """Return what to report; called once a second in the executor's thread."""
        return []

    def parameter(
        self,
        name: str,
        default: Any,  # noqa: ANN401 (what it holds)
        description: str = "",
        *,
        low: float | None = None,
        high: float | None = None,
        changeable: bool = False,
    ) -> Any:  # noqa: ANN401
        """Declare a parameter once and return its value.

        Args:
            name: Name.
            default: Value where nobody gives one; its type is the parameter's.
            description: Unit, and what it is for.
            low: Least value of a number; the range is declared, and shown by `ros2 param describe`.
            high: Greatest value; needed with `low`.
            changeable: It can be set while the node is not configured, to be read by the next `configure`. All others
                are read-only: a live change is refused with a reason, and the node goes on with what it was given.

        Raises:
            ContractError: when the value that was given has another type, or lies outside of the range.
        """
        if not self.has_parameter(name):
            descriptor = describe_parameter(default, description, low, high, read_only=not changeable)
            try:
                self.declare_parameter(name, default, descriptor)
            except (InvalidParameterTypeException, InvalidParameterValueException) as error:
                raise ContractError(f"{error}; {_expected(default, low, high)}") from error
            if changeable:
                self._changeable.add(name)
        value = self.get_parameter(name).value
        if low is not None and high is not None and not low <= value <= high:  # NaN, too
            raise ContractError(f"parameter {name} is {value}, {_expected(default, low, high)}")
        return value

    def robot_parameter(self) -> str:
        """Return the robot contract: a name in `config/robots`, or a file."""
        return str(self.parameter("robot", self.default_robot, "robot contract: a name or a file"))

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `configure`; what it had made before it failed is freed again."""
        del state
        answer = self._attempt("configure", self.configure, undo=self.cleanup)
        self._configured = answer == TransitionCallbackReturn.SUCCESS
        return answer

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `activate`; what it had begun before it failed is stopped again."""
        answer = self._attempt("activate", self.activate, undo=self.deactivate)
        self.active = answer == TransitionCallbackReturn.SUCCESS
        return super().on_activate(state) if self.active else answer

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `deactivate`; a failure is logged, and the node counts as stopped all the same."""
        self.active = False
        self._attempt("deactivate", self.deactivate)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `cleanup`."""
        del state
        self._configured = False
        return self._attempt("clean up", self.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        del state
        self.finish()
        return TransitionCallbackReturn.SUCCESS

    def finish(self) -> None:
        """Stop and free everything, from any state; safe to call twice."""
        if self.active:
            self.active = False
            self._attempt("deactivate", self.deactivate)
        self._attempt("clean up", self.cleanup)

    def _attempt(
        self, what: str, step: Callable[[], None], undo: Callable[[], None] | None = None
    ) -> TransitionCallbackReturn:
        try:
            step()
        except Exception as error:
            if not isinstance(error, VlaError):  # a mistake of ours, not of the configuration: say where
                self.get_logger().error(traceback.format_exc())
            self.get_logger().error(f"cannot {what}: {type(error).__name__}: {error}")
            if undo is not None:
                self._attempt(f"undo the failed {what}", undo)
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _answer_every_transition(self) -> None:
        """Answer a request for a transition that does not exist in this state with `success` false.

        rclpy raises out of `spin` instead, so that anyone's wrong request would end the process, unanswered.
        """
        service = self._service_change_state
        change = service.callback

        def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
            try:
                return change(request, response)
            except Exception as error:
                self.get_logger().warning(f"refused transition {request.transition.id}: {error}")
                response.success = False
                return response

        service.callback = answer

    def _judge_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        """Refuse what the node would not read any more, and another clock.

        A node that is configured goes by the values that `configure` has read. The clock's parameter is rclpy's own,
        and not read-only; with another one, stamps and deadlines from before would be those of another time.
        """
        if self._configured and (late := [one.name for one in parameters if one.name in self._changeable]):
            reason = (
                f"{', '.join(late)} cannot be changed while the node is configured: first "
                f"ros2 lifecycle set {self.get_fully_qualified_name()} deactivate, then cleanup"
            )
            return SetParametersResult(successful=False, reason=reason)
        current = self.get_parameter_or(CLOCK_PARAMETER, Parameter(CLOCK_PARAMETER, value=False)).value
        for parameter in parameters:
            if parameter.name == CLOCK_PARAMETER and parameter.value != current:
                reason = (
                    f"{CLOCK_PARAMETER} is {current} and cannot be changed while the node runs: start it again with "
                    f"--ros-args -p {CLOCK_PARAMETER}:={str(parameter.value).lower()}"
                )
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _report(self) -> None:
        try:
            statuses = self.health()
        except Exception as error:  # a report that fails must not take the node with it
            statuses = [diagnostic(self.get_name(), DiagnosticStatus.ERROR, f"no health: {error}", {})]
        if not statuses:
            statuses = [diagnostic(self.get_name(), DiagnosticStatus.OK, "active" if self.active else "not active", {})]
        message = DiagnosticArray(status=[self._of_this_arm(status) for status in statuses])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _of_this_arm(self, status: DiagnosticStatus) -> DiagnosticStatus:
        """Return a copy that can be told from those of another arm: /diagnostics is shared by all namespaces."""
        namespace = self.get_namespace().strip("/")
        # Given from the start, declared by `configure`: a report must not change its name in between.
        given = self._parameter_overrides.get("robot") or self.get_parameter_or("robot", None)
        robot = given.value if given and given.value else self.default_robot
        hardware = [namespace, Path(str(robot)).stem if robot else ""]
        return DiagnosticStatus(
            name=f"{namespace}/{status.name}" if namespace else status.name,
            hardware_id="/".join(filter(None, hardware)) or PACKAGE,
            level=status.level,
            message=status.message,
            values=status.values,
        )


def diagnostic(name: str, level: bytes, message: str, values: Mapping[str, object]) -> DiagnosticStatus:
    """Return one line of a report."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, hardware_id="", values=pairs)


def describe_parameter(
    default: object, description: str, low: float | None, high: float | None, *, read_only: bool
) -> ParameterDescriptor:
    """Return the descriptor of a parameter; numbers with both bounds get a range of their type."""
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if low is None or high is None:
        return descriptor
    if isinstance(default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    else:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor


def _expected(default: object, low: float | None, high: float | None) -> str:
    within = f"{low} to {high}, " if low is not None else ""
    return f"expected {within}a {type(default).__name__} such as {default!r}"


def initialize(arguments: Sequence[str] | None, **options: Any) -> str:  # noqa: ANN401 (those of rclpy.init)
    """Initialize rclpy with a node's own arguments (those of the process when None); "" or what is wrong with them."""
    try:
        rclpy.init(args=sys.argv if arguments is None else list(arguments), **options)
    except (RCLError, RCLInvalidROSArgsError, UnknownROSArgsError) as error:
        sentence = re.sub(r",? at /\S+:\d+", "", " ".join(str(error).split()))  # places in the source of rcl
        return sentence.removeprefix("failed to initialize rcl: ")
    return ""


def begin_process(arguments: Sequence[str] | None = None) -> threading.Event | None:
    """Make this process ready for nodes; return what its first signal sets.

    From that signal on the process has `END_GRACE` to end in order, and a second one ends it at once. None: ROS 2 does
    not take the arguments, and standard error says why.
    """
    keep_large_buffers()
    require_domain()
    if wrong := initialize(arguments, signal_handler_options=SignalHandlerOptions.NO):
        print(f"error: arguments of this node: {wrong}", file=sys.stderr, flush=True)
        return None
    stopping = threading.Event()

    def stop(number: int, frame: object) -> None:
        del number, frame
        if not stopping.is_set():
            stopping.set()
            end_within_grace()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    follow_parent()
    return stopping


def end_within_grace() -> None:
    """Give this process `END_GRACE` to end, and let the next signal end it at once."""
    # Neither needs Python to be able to run: a library that waits for ever while it closes may keep it from it.
    faulthandler.dump_traceback_later(END_GRACE, exit=True)
    _ends_at.append(time.monotonic() + END_GRACE)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)


def time_left() -> float:
    """Return how long this process has until it is ended the hard way, s; inf before it has been told to end."""
    return min(_ends_at, default=math.inf) - time.monotonic()


def run_node(make: Callable[[], ManagedNode], arguments: Sequence[str] | None = None) -> int:
    """Run one node until a signal asks it to end; returns the exit code.

    SIGINT and SIGTERM are treated alike: the node stops, frees what it holds, and the process ends with 0; with 1 when
    that takes longer than `END_GRACE`, or when ROS 2 does not take its arguments. A second signal ends it at once. A
    callback that raises is logged, and the node goes on.
    """
    stopping = begin_process(arguments)
    if stopping is None:
        return 1
    before = udp_sockets()
    node = make()
    executor = make_executor()
    executor.add_node(node)
    try:
        require_loopback_alone(before)
        spin(node, executor, stopping)
    finally:
        node.finish()
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def spin(node: ManagedNode, executor: SingleThreadedExecutor, stopping: threading.Event) -> None:
    """Run the callbacks of a node until `stopping` is set; one that raises is logged, and the node goes on."""
    while not stopping.is_set() and rclpy.ok():
        try:
            executor.spin_once(timeout_sec=SPIN_TIMEOUT)
        except (KeyboardInterrupt, ExternalShutdownException):
            return
        except Exception:
            node.get_logger().error(
                f"a callback failed:\n{traceback.format_exc()}", throttle_duration_sec=FAILURE_LOG_PERIOD
            )
