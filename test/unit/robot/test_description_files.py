"""Where a contract finds its description, and what is said of one that cannot be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vla_ros.cli.main import main
from vla_ros.errors import ContractError
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.robot.description.urdf import read_model
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.selftest.table import fault_table, run_faults

PANDA = load_contract("panda")
URDF = PANDA.urdf.read_text(encoding="utf-8")
LINK = '<robot name="a"><link name="x"/>'

BROKEN = [
    ("", "EMPTY_DOCUMENT"),
    (URDF[: len(URDF) // 2], "Line number="),
    ("<a/>", "Could not find the 'robot' element"),
    ('<robot name="a"/>', "No link elements found"),
    (
        f'{LINK}<joint name="j" type="fixed"><parent link="q"/><child link="x"/></joint></robot>',
        "parent link [q] of joint [j] not found",
    ),
    (f'{LINK}<link name="y"/></robot>', "Two root links found"),
]


def arm(folder: Path, urdf: str = URDF, line: str = "arm.urdf") -> Path:
    """Write the shipped contract with a description of its own beside it; returns the contract."""
    place = folder / line
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(urdf, encoding="utf-8")
    contract = folder / "arm.yaml"
    contract.write_text(PANDA.text.replace("urdf/panda.urdf", line), encoding="utf-8")
    return contract


@pytest.mark.parametrize("line", ["arm.urdf", "parts/arm.urdf", "urdf/panda.urdf"])
def test_a_description_beside_the_contract_is_found_from_any_folder(line, tmp_path, monkeypatch):
    path = arm(tmp_path / "robots", line=line)
    for folder in ("/", tmp_path):
        monkeypatch.chdir(folder)
        assert load_contract(path).urdf == tmp_path / "robots" / line
    monkeypatch.chdir(tmp_path)
    assert load_contract("robots/arm.yaml").urdf == tmp_path / "robots" / line


def test_a_shipped_description_is_found_when_none_is_beside_the_contract(tmp_path):
    path = tmp_path / "arm.yaml"
    path.write_text(PANDA.text, encoding="utf-8")
    assert load_contract(path).urdf == PANDA.urdf


def test_a_description_that_is_nowhere_is_looked_for_beside_the_contract(tmp_path):
    path = arm(tmp_path)
    (tmp_path / "arm.urdf").unlink()
    with pytest.raises(ContractError, match=r"not beside the contract, at .*arm\.urdf"):
        load_contract(path)


def test_the_home_of_the_user_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    arm(tmp_path)
    assert load_contract("~/arm.yaml").urdf == tmp_path / "arm.urdf"
    text = PANDA.text.replace("urdf/panda.urdf", "~/arm.urdf")
    assert parse_contract(text).urdf == tmp_path / "arm.urdf"


@pytest.mark.parametrize(("urdf", "reason"), BROKEN)
def test_a_description_that_cannot_be_read_is_named_with_the_reason(urdf, reason, tmp_path, capfd):
    contract = load_contract(arm(tmp_path, urdf))
    for make in (Kinematics, lambda c: CollisionModel(c, load_parameters().collision, ())):
        with pytest.raises(ContractError) as caught:
            make(contract)
        assert str(contract.urdf) in str(caught.value)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_what_is_said_of_a_description_that_can_be_read_is_passed_on(tmp_path, capfd):
    path = tmp_path / "arm.urdf"
    path.write_text(URDF.replace("</robot>", '<joint name="odd"/></robot>'), encoding="utf-8")
    with pytest.raises(ContractError, match="odd"):
        read_model(path)
    path.write_text(URDF, encoding="utf-8")
    assert read_model(path).njoints > 7
    assert capfd.readouterr().err == ""


def test_the_self_test_says_it_before_any_fault_is_tried(tmp_path, capfd):
    path = arm(tmp_path, URDF[: len(URDF) // 2])
    assert main(["selftest", "--robot", str(path), "--json"]) == 1
    shown = capfd.readouterr()
    assert len(shown.out.splitlines()) == len(shown.err.splitlines()) == 1
    assert "MISSED" not in shown.out
    assert "Line number=" in json.loads(shown.out)["error"]


def test_a_wrong_contract_is_an_error_and_no_missed_fault(tmp_path):
    rows = []
    with pytest.raises(ContractError, match="Line number="):
        run_faults(load_contract(arm(tmp_path, URDF[:5000])), load_parameters(), fault_table()[:3], rows.append)
    assert rows == []


def test_a_home_outside_the_workspace_is_an_error_and_no_missed_fault():
    box = replace(PANDA.cartesian, workspace_upper=PANDA.cartesian.workspace_lower + 0.1)
    rows = []
    with pytest.raises(ContractError, match=r"joints.home puts the tool at .* outside cartesian.workspace"):
        run_faults(replace(PANDA, cartesian=box), load_parameters(), fault_table()[:3], rows.append)
    assert rows == []


def test_faults_of_the_configuration_are_refused_for_what_they_are(tmp_path, monkeypatch):
    """A contract that is read again finds its description, or any change would be refused for the lack of that."""
    path = arm(tmp_path / "robots")
    monkeypatch.chdir("/")
    seen = []
    from vla_ros.safety.selftest.faults import configuration

    real = configuration.parse_contract
    monkeypatch.setattr(configuration, "parse_contract", lambda text: seen.append(_outcome(real, text)) or real(text))
    faults = configuration.table()
    run_faults(load_contract(path), load_parameters(), faults)
    assert seen
    assert not [outcome for outcome in seen if "arm.urdf" in outcome]


def _outcome(parse, text):
    try:
        parse(text)
    except ContractError as error:
        return str(error)
    return ""
