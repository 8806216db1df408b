"""The section `contact` of a robot contract: complete, bounded, and absent in older contracts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract, parse_contract

LINES = ("delay", "lag", "tracking", "effort", "payload", "retreat")


def changed(name, value):
    values = yaml.safe_load(load_contract("panda").text)
    values["contact"][name] = value
    return parse_contract(yaml.safe_dump(values, sort_keys=False))


@pytest.mark.parametrize("robot", ["panda", "fr3", "ur5e", "so101", "template"])
def test_every_shipped_contract_has_contact_thresholds(robot):
    contract = load_contract(robot)
    assert contract.contact is not None
    assert contract.contact.tracking.shape == (contract.joints.count,)


def test_contract_without_the_section_still_loads():
    values = yaml.safe_load(load_contract("panda").text)
    del values["contact"]
    assert parse_contract(yaml.safe_dump(values, sort_keys=False)).contact is None


@pytest.mark.parametrize("name", LINES)
def test_a_missing_contact_line_is_named(name):
    values = yaml.safe_load(load_contract("panda").text)
    del values["contact"][name]
    with pytest.raises(ContractError, match=f"contact: '{name}' is missing"):
        parse_contract(yaml.safe_dump(values, sort_keys=False))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delay", 0.2),
        ("delay", float("nan")),
        ("lag", [0.02] * 6),
        ("lag", [-0.01] * 7),
        ("tracking", [0.0] * 7),
        ("tracking", [0.6] * 7),
        ("effort", [0.0] * 7),
        ("effort", "off"),
        ("payload", -1.0),
        ("retreat", 0.2),
        ("sensitivity", 1.0),
    ],
)
def test_contact_values_that_guard_nothing_are_refused(name, value):
    with pytest.raises(ContractError, match=f"contact.*{name}"):
        changed(name, value)


def test_effort_none_means_not_reported():
    assert changed("effort", "none").contact.effort is None
    np.testing.assert_array_equal(changed("effort", [4.0] * 7).contact.effort, [4.0] * 7)


@pytest.mark.parametrize("policy", ["pick", "tabletop"])
def test_shipped_checkpoints_fit_the_shipped_contract(policy):
    needs = pytest.importorskip("vla_ros.policies.needs")
    from vla_ros.policies.compatibility import compare

    content = json.loads(share_file(f"checkpoints/{policy}/policy.json").read_text(encoding="utf-8"))
    stored = content["contract"]
    assert "contact" not in yaml.safe_load(stored)  # written before the section was
    compare(needs.needs_of_checkpoint(share_file(f"checkpoints/{policy}")), load_contract("panda")).require()
