"""A few real demonstrations, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_ros.data.episodes.demonstrations import DemonstrationWriter
from vla_ros.envs.collector import CollectionOptions
from vla_ros.envs.registry import make_collector
from vla_ros.envs.tabletop.objects import COLOURS, SHAPES
from vla_ros.envs.tabletop.tasks import PICK_TEMPLATES
from vla_ros.robot.contract import load_contract
from vla_ros.training.datasets.pick import PickDataset

KINDS = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    contract = load_contract("panda")
    writer = DemonstrationWriter(folder, contract.action, {})
    collector = make_collector("pick", contract, CollectionOptions(max_steps=25))
    for seed in range(3):
        writer.write(collector.collect(seed))
    return folder


@pytest.fixture(scope="session")
def dataset(recorded: Path) -> PickDataset:
    return PickDataset([recorded], ["front", "wrist"], PICK_TEMPLATES, KINDS)


def _collect_tabletop(folder: Path, seeds: tuple[int, ...]) -> Path:
    contract = load_contract("panda")
    writer = DemonstrationWriter(folder, contract.action, {})
    collector = make_collector("tabletop", contract, CollectionOptions(max_steps=12, switch=0.0))
    for seed in seeds:
        writer.write(collector.collect(seed))
    return folder


@pytest.fixture(scope="session")
def tabletop_recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _collect_tabletop(tmp_path_factory.mktemp("tabletop"), (1, 2, 3, 6))


@pytest.fixture(scope="session")
def tabletop_later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _collect_tabletop(tmp_path_factory.mktemp("tabletop_later"), (7,))
