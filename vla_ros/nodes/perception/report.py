"""Status of the cameras as entries of /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus

from vla_ros.perception.health import CameraFault, CameraHealth
from vla_ros.robot.contract import CameraContract
from vla_ros.ros.lifecycle import diagnostic


def camera_status(
    node: str, camera: CameraContract, health: CameraHealth, overwritten: int, now: float, sentence: str
) -> DiagnosticStatus:
    """Return the entry of one camera.

    Args:
        node: Name of the reporting node.
        camera: Expected properties.
        health: Received images.
        overwritten: Number of images replaced by a newer one before they were processed.
        now: Steady clock, s.
        sentence: Human-readable problem.
    """
    values = {
        "rate_hz": f"{health.rate(now):.1f}",
        "expected_hz": f"{camera.rate_hz:.1f}",
        "age_s": f"{health.age(now):.3f}",
        "images": health.images,
        "refused": health.refused,
        "overwritten": overwritten,
    }
    level = DiagnosticStatus.OK if health.watch(now) is CameraFault.NONE else DiagnosticStatus.ERROR
    return diagnostic(f"{node}: camera {camera.name}", level, sentence, values)


def observing_status(
    node: str, silence: float, longest: float, why: str, counts: Mapping[str, int]
) -> DiagnosticStatus:
    """Return the entry of the observations.

    Args:
        node: Name of the reporting node.
        silence: Time since the last observation, s.
        longest: Maximum silence, s; a longer one is an error.
        why: What prevents the next observation.
        counts: Counters to show.
    """
    if silence <= longest:
        return diagnostic(node, DiagnosticStatus.OK, "observing", counts)
    return diagnostic(node, DiagnosticStatus.ERROR, f"no observation for {silence:.1f} s: {why}", counts)
