"""Base of all nodes of the package: managed lifecycle, diagnostics, and a main that ends cleanly.

A node derives from `ManagedNode` and implements `configure`, `activate`, `deactivate` and `cleanup`. An exception in
`configure` or `activate` becomes a refused transition with the reason in the log, never a crashed process.
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
from vla_ros.ros.clock.on_demand import ClockOnDemand
from vla_ros.ros.dds.environment_check import require_domain
from vla_ros.ros.dds.large_buffers import retain_large_buffers
from vla_ros.ros.dds.loopback import require_loopback_alone, udp_sockets
from vla_ros.ros.executor import make_executor
from vla_ros.ros.process import follow_parent
from vla_ros.ros.qos import qos

DIAGNOSTICS_PERIOD = 1.0
"""Period of reports on /diagnostics, s."""

SPIN_TIMEOUT = 0.1
"""Maximum latency until a signal is noticed, s."""

END_GRACE = 3.0
"""Time after the signal within which a node must free everything, s; after it the process is ended forcibly."""

_ends_at: list[float] = []  # time at which this process is ended forcibly, s on the steady clock; set by a signal

CLOCK_PARAMETER = "use_sim_time"

MAX_SEED = 2**31 - 2
"""Maximum seed of a scene; Gazebo gets the seed plus one, as a signed 32-bit integer."""

PACKAGE = "vla_ros"
"""`hardware_id` of a node without a robot and a namespace."""

FAILURE_LOG_PERIOD = 5.0
"""Period of logging a callback that keeps failing, s."""


class ManagedNode(LifecycleNode):
    """Lifecycle node that reports its health once a second, in every state.

    Attributes:
        default_robot: Default robot contract; "" for a node without one.
        niceness: Niceness of its process, -20 (highest priority) to 19 (lowest).
    """

    default_robot: ClassVar[str] = ""
    niceness: ClassVar[int] = 0

    def __init__(self, name: str, **options: Any) -> None:  # noqa: ANN401 (those of rclpy.node.Node)
        """Create the node, unconfigured; `options` are those of `rclpy.node.Node`."""
        super().__init__(name, **options)
        self._clock_on_demand = ClockOnDemand(self)
        self._answer_every_transition()
        # rclpy calls the callback added last first, so its own, which switches the clock, is not reached.
        self.add_on_set_parameters_callback(self._judge_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos("diagnostics"))
        # Steady clock: a paused simulation must not silence the report.
        self._diagnostics_timer = self.create_timer(
            DIAGNOSTICS_PERIOD, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self.active = self._configured = False
        self._changeable: set[str] = set()

    def get_clock(self) -> Clock:
        """Return the node's clock, set to the newest simulation time; call it again for each reading."""
        self._clock_on_demand.update()
        return super().get_clock()

    def configure(self) -> None:
        """Read parameters and create what `activate` needs; raise to refuse."""

    def activate(self) -> None:
        """Start working; raise to refuse."""

    def deactivate(self) -> None:
        """Stop working; must work after a partially failed `activate`."""

    def cleanup(self) -> None:
        """Free what `configure` created; must work after a partial failure of it, and when called twice."""

    def health(self) -> list[DiagnosticStatus]:
        """Return the statuses to report; called once a second in the executor's thread."""
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
            default: Default value; its type is the parameter's.
            description: Unit and purpose.
            low: Minimum of a number; the range is declared, and shown by `ros2 param describe`.
            high: Maximum; required with `low`.
            changeable: The parameter can be set while the node is unconfigured and is read by the next `configure`. All
                others are read-only: a live change is refused with a reason, and the node keeps the value it was given.

        Raises:
            ContractError: when the given value has another type or is out of range.
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
        if low is not None and high is not None and not low <= value <= high:  # also catches NaN
            raise ContractError(f"parameter {name} is {value}, {_expected(default, low, high)}")
        return value

    def robot_parameter(self) -> str:
        """Return the robot contract: a name in `config/robots`, or a file."""
        return str(self.parameter("robot", self.default_robot, "robot contract: a name or a file"))

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `configure`; on failure, free what it had created."""
        del state
        answer = self._attempt("configure", self.configure, undo=self.cleanup)
        self._configured = answer == TransitionCallbackReturn.SUCCESS
        return answer

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `activate`; on failure, stop what it had started."""
        answer = self._attempt("activate", self.activate, undo=self.deactivate)
        self.active = answer == TransitionCallbackReturn.SUCCESS
        return super().on_activate(state) if self.active else answer

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `deactivate`; a failure is logged, and the node counts as inactive all the same."""
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
            if not isinstance(error, VlaError):  # a bug rather than a wrong configuration: log the traceback
                self.get_logger().error(traceback.format_exc())
            self.get_logger().error(f"cannot {what}: {type(error).__name__}: {error}")
            if undo is not None:
                self._attempt(f"undo the failed {what}", undo)
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _answer_every_transition(self) -> None:
        """Respond to a request for an invalid transition with `success` false.

        rclpy raises out of `spin` instead, so a wrong request from anyone would end the process without a response.
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
        """Refuse changes that the node would no longer read, and changes of the clock.

        A configured node uses the values that `configure` has read. The clock's parameter is rclpy's own and not
        read-only; with a different clock, earlier stamps and deadlines would refer to another time.
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
        except Exception as error:  # a failing report must not crash the node
            statuses = [diagnostic(self.get_name(), DiagnosticStatus.ERROR, f"no health: {error}", {})]
        if not statuses:
            statuses = [diagnostic(self.get_name(), DiagnosticStatus.OK, "active" if self.active else "not active", {})]
        message = DiagnosticArray(status=[self._of_this_arm(status) for status in statuses])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _of_this_arm(self, status: DiagnosticStatus) -> DiagnosticStatus:
        """Return a copy whose name identifies the arm, because all namespaces share /diagnostics."""
        namespace = self.get_namespace().strip("/")
        # Prefers the override to the value declared by `configure`, so that the name does not change in between.
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
    """Return one entry of a report."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, hardware_id="", values=pairs)


def describe_parameter(
    default: object, description: str, low: float | None, high: float | None, *, read_only: bool
) -> ParameterDescriptor:
    """Return a parameter's descriptor; numbers with both bounds get a range of their type."""
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
    article = "an" if type(default) is int else "a"
    return f"expected {within}{article} {type(default).__name__} such as {default!r}"


def initialize(arguments: Sequence[str] | None, **options: Any) -> str:  # noqa: ANN401 (those of rclpy.init)
    """Initialize rclpy with a node's arguments (default: those of the process); return an error or ""."""
    try:
        rclpy.init(args=sys.argv if arguments is None else list(arguments), **options)
    except (RCLError, RCLInvalidROSArgsError, UnknownROSArgsError) as error:
        sentence = re.sub(r",? at /\S+:\d+", "", " ".join(str(error).split()))  # source locations in rcl
        return sentence.removeprefix("failed to initialize rcl: ")
    return ""


def begin_process(arguments: Sequence[str] | None = None) -> threading.Event | None:
    """Prepare this process for nodes; return the event that its first signal sets.

    After that signal the process has `END_GRACE` to exit cleanly; a second signal ends it at once. Returns None if ROS
    2 rejects the arguments; standard error says why.
    """
    retain_large_buffers()
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
    # Neither needs a responsive interpreter, which a library may block forever while it closes.
    faulthandler.dump_traceback_later(END_GRACE, exit=True)
    _ends_at.append(time.monotonic() + END_GRACE)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)


def time_left() -> float:
    """Return the time until this process is ended forcibly, s; inf until it is asked to end."""
    return min(_ends_at, default=math.inf) - time.monotonic()


def run_node(make: Callable[[], ManagedNode], arguments: Sequence[str] | None = None) -> int:
    """Run one node until a signal ends it; return the exit code.

    SIGINT and SIGTERM are equivalent: the node stops and frees its resources, and the process ends with 0; with 1 if
    that takes longer than `END_GRACE`, or if ROS 2 rejects its arguments. A second signal ends it at once. An exception
    in a callback is logged, and the node continues.
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
    """Run a node's callbacks until `stopping` is set; exceptions are logged, and the node continues."""
    while not stopping.is_set() and rclpy.ok():
        try:
            executor.spin_once(timeout_sec=SPIN_TIMEOUT)
        except (KeyboardInterrupt, ExternalShutdownException):
            return
        except Exception:
            node.get_logger().error(
                f"a callback failed:\n{traceback.format_exc()}", throttle_duration_sec=FAILURE_LOG_PERIOD
            )
