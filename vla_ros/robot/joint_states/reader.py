"""Reader of the joint states of one robot, used by every node that needs them.

Velocities that a driver does not report are computed from positions, and the messages of several publishers are merged
where the contract lists several: both need more than one message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.robot.joint_states.merge import JointMerger, JointSample
from vla_ros.robot.joint_states.report import (
    JointFault,
    JointReading,
    JointReport,
    JointReportError,
    complete_reading,
    efforts_of,
    measure,
)
from vla_ros.robot.joint_states.sources import JointSource
from vla_ros.robot.joint_states.velocity_estimate import VelocityEstimator
from vla_ros.types import FloatArray

ONLY_SOURCE = "robot"
"""Name of the source when the contract lists none."""

TOGETHER = "one publisher has to report arm and gripper together, or controllers.joint_states_from has to name several"


class JointStateReader:
    """Reads the reports of a robot in order of receipt; not thread-safe.

    Attributes:
        differentiates: Whether velocities in the newest report were missing or NaN, and computed from positions.
    """

    def __init__(self, contract: RobotContract) -> None:
        """Expect the joints of the contract."""
        self._contract = contract
        names = (*contract.joints.names, *contract.finger_names)
        sources = contract.controllers.joint_states_from
        self._merger = JointMerger(sources, names) if sources else None
        self._sources = {one.name: one for one in sources or (JointSource(ONLY_SOURCE, names, np.inf),)}
        self._owners = {joint: source.name for source in self._sources.values() for joint in source.joints}
        self._velocities = {name: VelocityEstimator() for name in self._sources}
        arm = set(contract.joints.names)
        self._of_arm = {name: np.array([j in arm for j in one.joints]) for name, one in self._sources.items()}
        self.differentiates = False

    def sources(self, names: Iterable[str]) -> list[str]:
        """Return the sources whose joints are among `names`; empty for a message of wheels, or of another arm."""
        return list(dict.fromkeys(self._owners[name] for name in names if name in self._owners))

    def read(self, report: JointReport, received: float) -> JointReading | None:
        """Return the reading that this report completes; `received` is its time of receipt, s, steady clock.

        Returns:
            None when the report has no joint of this robot, while a velocity is still unknown, or while the other
            sources have nothing newer to merge.

        Raises:
            JointReportError: as for `measure`, `complete_reading` and `JointMerger.add`, or when a source reports a
                joint of another source; the report is then not used.
        """
        if not (owners := self.sources(report.names)):
            return None
        source = self._sources[self._sender(owners, report)]
        try:
            self._require_one(owners, source.name, report)
            advice = TOGETHER if self._merger is None else f"source '{source.name}' has to report its joints together"
            positions, reported = measure(report, source.joints, self._contract, advice)
        except JointReportError as error:
            if self._merger is not None:
                self._merger.refuse(source.name, error)
            raise
        velocities = self._complete(source.name, positions, reported, report.stamp)
        if velocities is None:
            return None
        sample = JointSample(np.stack([positions, velocities]), report.stamp, received)
        merged = sample if self._merger is None else self._merger.add(source.name, sample)
        if merged is None:
            return None
        n = self._contract.joints.count
        values = merged.values
        reading = complete_reading(values[0], values[1, :n], merged.stamp, self._contract, merged.received)
        # With several sources, the torques would not match the time of the merged state.
        return replace(reading, efforts=efforts_of(report, self._contract)) if self._merger is None else reading

    def _sender(self, owners: list[str], report: JointReport) -> str:
        """Return the source with the most joints in the report."""
        return max(owners, key=lambda owner: sum(self._owners.get(name) == owner for name in report.names))

    def _require_one(self, owners: list[str], sender: str, report: JointReport) -> None:
        if len(owners) == 1:
            return
        of = {owner: [name for name in report.names if self._owners.get(name) == owner] for owner in owners}
        wrong = "; ".join(f"{joints} of source '{owner}'" for owner, joints in of.items() if owner != sender)
        raise JointReportError(
            JointFault.SOURCE,
            f"joints are reported by two sources: source '{sender}' also reports {wrong}; have only one report them, "
            "or correct controllers.joint_states_from",
        )

    def _complete(self, source: str, positions: FloatArray, reported: FloatArray, stamp: float) -> FloatArray | None:
        """Return the velocities (k,) of a source, NaN in `reported` replaced by computed ones; None while unknown.

        Velocities of fingers may stay NaN: they are not used.
        """
        arm = self._of_arm[source]
        computed = self._velocities[source].update(positions, stamp)  # always: a velocity may be missing at any time
        unknown = np.isnan(reported) & arm
        if arm.any():
            self.differentiates = bool(unknown.any())
        if not unknown.any():
            return reported
        return None if computed is None else np.where(unknown, computed, reported)
