"""Every file of `config/` loads as it stands: it is an example, and is copied."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from vla_ros.paths import share_file
from vla_ros.policies.registry import read_policy_file
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.graph.description import load_graph
from vla_ros.ros.parameter_files import parameter_sections
from vla_ros.ros.qos import qos
from vla_ros.safety.parameters import load_parameters
from vla_ros.training.configuration import load_training_config

CONFIG = share_file("config")


def load_profiles(path: Path) -> None:
    for name in yaml.safe_load(path.read_text(encoding="utf-8")):
        qos(name)


def load_rules(path: Path) -> None:
    for rule in yaml.safe_load(path.read_text(encoding="utf-8")):
        assert {"ros_topic_name", "gz_topic_name", "ros_type_name", "gz_type_name", "direction"} <= set(rule)


LOADERS: dict[str, Callable[[Path], object]] = {
    "robots/*.yaml": lambda path: Kinematics(load_contract(str(path))),
    "training/*.yaml": load_training_config,
    "policies/*.yaml": read_policy_file,
    "gazebo/*.yaml": load_rules,
    "controllers.yaml": lambda path: parameter_sections(str(path)),
    "graph.yaml": load_graph,
    "safety.yaml": load_parameters,
    "qos.yaml": load_profiles,
    "*/*.xml": ElementTree.parse,
}


def loader(path: Path) -> Callable[[Path], object]:
    return next(load for pattern, load in LOADERS.items() if path.relative_to(CONFIG).match(pattern))


@pytest.mark.parametrize(
    "path", sorted(path for path in CONFIG.rglob("*") if path.is_file()), ids=lambda path: str(path.relative_to(CONFIG))
)
def test_a_shipped_file_loads_as_it_stands(path: Path) -> None:
    loader(path)(path)
    if path.name != "graph.yaml":  # whose arguments are written like that
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if "$" in line.split("#")[0]] == []
