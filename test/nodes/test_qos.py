"""The table of quality of service is complete, bounded, and its two ends fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

import vla_ros
from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.ros.qos import QOS_FILE, qos

TABLE = yaml.safe_load(share_file(QOS_FILE).read_text(encoding="utf-8"))
PACKAGE = Path(vla_ros.__file__).resolve().parent


@pytest.mark.parametrize("topic", TABLE)
def test_every_queue_is_bounded(topic: str) -> None:
    profile = qos(topic)
    assert profile.history == HistoryPolicy.KEEP_LAST
    # A press amid a flood of releases must outlast the flood, and the trace keeps every tick: these alone are deeper.
    assert 1 <= profile.depth <= {"estop": 200, "trace": 100}.get(topic, 50)
    assert (profile.reliability == ReliabilityPolicy.RELIABLE) == (TABLE[topic]["reliability"] == "reliable")
    assert (profile.durability == DurabilityPolicy.TRANSIENT_LOCAL) == (TABLE[topic]["durability"] != "volatile")


@pytest.mark.parametrize("sensor", ["camera", "joint_states"])
def test_what_we_read_from_foreign_drivers_fits_reliable_and_best_effort_ones(sensor: str) -> None:
    for publisher in (qos(sensor), qos(f"{sensor}_out")):
        assert qos_check_compatible(publisher, qos(sensor))[0] == QoSCompatibility.OK


@pytest.mark.parametrize("offered", ["camera_out", "camera_info", "joint_states_out", "tf", "tf_static"])
@pytest.mark.parametrize("asked", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT])
def test_what_a_simulation_offers_serves_every_subscriber(offered: str, asked: ReliabilityPolicy) -> None:
    wanted = QoSProfile(
        depth=1, reliability=asked, durability=DurabilityPolicy.VOLATILE, liveliness=LivelinessPolicy.AUTOMATIC
    )
    assert qos_check_compatible(qos(offered), wanted)[0] == QoSCompatibility.OK


def test_every_name_that_the_nodes_ask_for_is_there_and_none_is_left_over() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert set(re.findall(r'qos\("(\w+)"\)', sources)) <= set(TABLE)
    assert {name for name in TABLE if f'"{name}"' not in sources} == set()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"depth": 0}, "depth is 0, expected an integer from 1"),
        ({"depth": 10**6}, "depth is 1000000"),
        ({"depth": 2.5}, "depth is 2.5"),
        ({"depth": True}, "depth is True"),
        (
            {"reliability": "best-effort"},
            r"reliability is 'best-effort', expected one of \['best_effort', 'reliable'\]",
        ),
        ({"durability": None}, "durability is None"),
        ({"lifespan": 3}, "expected exactly"),
    ],
)
def test_a_wrong_line_is_named(change: dict[str, object], says: str) -> None:
    table = {"camera": {"reliability": "reliable", "durability": "volatile", "depth": 1} | change}
    with pytest.raises(ContractError, match=f"camera: .*{says}"):
        qos("camera", table)


@pytest.mark.parametrize("entry", [None, 3, {"depth": 1}])
def test_a_wrong_entry_is_named(entry: object) -> None:
    with pytest.raises(ContractError, match="expected exactly"):
        qos("camera", {"camera": entry})


def test_an_unknown_topic_is_named() -> None:
    with pytest.raises(ContractError, match="no 'camra'; it has"):
        qos("camra")
