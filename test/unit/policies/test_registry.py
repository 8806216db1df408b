"""What a policy's name stands for, and what is said where it stands for nothing that can be loaded."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from vla_ros.errors import CheckpointError
from vla_ros.paths import share_roots
from vla_ros.policies.build import find_checkpoint, load_policy
from vla_ros.policies.local import LocalPolicy
from vla_ros.policies.registry import find_policy
from vla_ros.robot.contract import load_contract

CONTRACT = load_contract("panda")
MODULE = """
from types import MappingProxyType
import numpy as np
from vla_ros.types import ActionChunk

class Rest:
    name, device, image_sizes = "rest", "cpu", MappingProxyType({})
    def __init__(self, contract, device="?", scale=1.0):
        self.specification, self.told, self.scale = contract.action, device, scale
    def reset(self, instruction): pass
    def predict(self, observation):
        space = self.specification
        return ActionChunk(np.zeros((1, space.width)), space.period, observation.stamp, space.fingerprint)

class OtherRate(Rest):
    def __init__(self, contract):
        from dataclasses import replace
        super().__init__(contract)
        self.specification = replace(contract.action, rate_hz=5.0)

class OtherReference(Rest):
    def __init__(self, contract):
        from dataclasses import replace
        super().__init__(contract)
        motion, gripper = contract.action.groups
        self.specification = replace(contract.action, groups=(replace(motion, reference="delta"), gripper))

class Nameless:
    def __init__(self, contract): pass
    def reset(self, instruction): pass
    def predict(self, observation): pass

def function(contract): pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a user, with a policy as entry point."""
    (tmp_path / "users_policies.py").write_text(MODULE)
    (tmp_path / "users-1.0.dist-info").mkdir()
    (tmp_path / "users-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: users\nVersion: 1.0\n")
    entry = "[vla_ros.policies]\nresting = users_policies:Rest\n"
    (tmp_path / "users-1.0.dist-info" / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(tmp_path)
    assert entry_points(group="vla_ros.policies")
    return tmp_path


def test_shipped_checkpoint_is_found_by_name_and_by_folder() -> None:
    assert find_policy("pick") == find_policy("checkpoints/pick")
    assert find_checkpoint("pick").name == "pick"
    assert isinstance(load_policy("pick", CONTRACT, "cpu"), LocalPolicy)


def test_class_of_a_package_is_loaded_with_what_it_takes(package: Path) -> None:
    policy = load_policy("users_policies:Rest", CONTRACT, "cpu", "fp32")
    assert (policy.name, policy.told, policy.scale) == ("rest", "cpu", 1.0)


def test_policy_of_another_rate_is_resampled(package: Path) -> None:
    policy = load_policy("users_policies:OtherRate", CONTRACT, "cpu")
    assert policy.specification == CONTRACT.action
    assert policy.policy.specification.rate_hz == 5.0


def test_entry_point_is_found_by_its_name_and_as_kind_of_a_file(package: Path) -> None:
    assert load_policy("resting", CONTRACT).scale == 1.0
    (package / "mine.yaml").write_text("kind: resting\noptions: {scale: 2.5}\n")
    assert load_policy(str(package / "mine.yaml"), CONTRACT).scale == 2.5


def test_file_of_a_checkpoint_chooses_its_device(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("kind: checkpoint\nfolder: checkpoints/pick\ndevice: cpu\nprecision: bf16\n")
    policy = load_policy(str(tmp_path / "mine.yaml"), CONTRACT, "cuda:99")
    assert policy.device == "cpu"


def test_address_becomes_a_policy_that_says_what_is_missing() -> None:
    source = find_policy("openpi://127.0.0.1:1")
    assert (source.kind, source.place) == ("openpi", "openpi://127.0.0.1:1")
    with pytest.raises(CheckpointError, match="expected a folder written by 'vla-ros train'"):
        find_checkpoint("openpi://127.0.0.1:1")


def test_every_shipped_policy_file_is_valid() -> None:
    files = [file for root in share_roots() for file in (root / "config/policies").glob("*.yaml")]
    assert files
    for file in files:
        assert find_policy(file.stem) == find_policy(str(file))


UNKNOWN = {
    "nowhere": ("no checkpoint 'nowhere'.*Policy files: .*'openpi'.*openpi://host:port", CheckpointError),
    "nowhere.yaml": ("no policy 'nowhere.yaml': looked for nowhere.yaml", CheckpointError),
    "gr00t://host:5555": ("'gr00t' is no protocol that is spoken here; expected openpi, openpis", CheckpointError),
    "no_such_package.policy:Policy": ("no module 'no_such_package'; pip install the package", CheckpointError),
    "users_policies:Missing": ("expected a class with the methods reset and predict", CheckpointError),
    "users_policies:function": ("expected a class with the methods reset and predict", CheckpointError),
    "subprocess:Popen": ("expected a class with the methods reset and predict", CheckpointError),
    "users_policies:Nameless": ("it has no name, specification, device, image_sizes", CheckpointError),
    "users_policies:OtherReference": (
        "does not fit robot 'panda': action arm/ee_delta reference: trained with delta, the robot has relative",
        CheckpointError,
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_policy_is_answered_with_what_there_is(name: str, package: Path) -> None:
    says, error = UNKNOWN[name]
    with pytest.raises(error, match=says):
        load_policy(name, CONTRACT, "cpu")


WRONG_FILES = {
    "no kind": ("folder: checkpoints/pick", "kind is None, expected checkpoint, openpi, class"),
    "kind of nobody": ("kind: octo", "pip install the package that has the entry point 'octo'"),
    "no mapping": ("- kind", "expected lines"),
    "twice": ("kind: class\nkind: class", "stands twice"),
    "unknown line": ("kind: checkpoint\nfolder: checkpoints/pick\ndevise: cpu", r"unknown \['devise'\]"),
    "no folder": ("kind: checkpoint\nfolder: /nowhere", "no policy '/nowhere'"),
    "wrong class": ("kind: class\nclass: Rest", "expected module:Class"),
    "options are a list": ("kind: class\nclass: a:B\noptions: [1]", "options is"),
    "wrong address": ("kind: openpi\naddress: ws://host", "expected openpi://host"),
    "timeout": ("kind: openpi\naddress: openpi://host\ntimeout: .nan", "timeout is nan"),
    "half of the features": ("kind: openpi\naddress: openpi://host\naction: {}", "expected observation and action"),
    "observation": ("kind: openpi\naddress: openpi://host\naction: {}\nobservation: {}", r"missing \['cameras'"),
}


@pytest.mark.parametrize(("text", "says"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_wrong_file_is_refused_with_the_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=says) as caught:
        find_policy(str(tmp_path / "mine.yaml"))
    assert str(caught.value).startswith("policy file mine.yaml: ")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"type": "act"}, r"checkpoint of LeRobot \(act\): .*pip install lerobot"),
        ({"model_type": "pi0"}, r"checkpoint of Transformers \(pi0\): .*make setup EXTRAS=models"),
    ],
)
def test_foreign_folder_is_recognized(config: dict[str, str], says: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=says):
        find_policy(str(tmp_path))


def test_folder_of_openpi_is_recognized(tmp_path: Path) -> None:
    (tmp_path / "params").mkdir()
    (tmp_path / "assets").mkdir()
    with pytest.raises(CheckpointError, match=r"checkpoint of openpi: run .*serve_policy"):
        find_policy(str(tmp_path))


def test_folder_of_nothing_lacks_a_policy(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"policy\.json is missing"):
        load_policy(str(tmp_path), CONTRACT, "cpu")
