from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.safety.parameters import SAFETY_FILE, parse_parameters
from vla_ros.yaml_files import LARGEST_TEXT, parse_yaml

ROOT = Path(__file__).parents[2]


def test_a_duplicate_key_is_refused_with_both_lines():
    with pytest.raises(yaml.YAMLError, match=r"'b' stands twice, in line 2 and in line 4"):
        parse_yaml("a:\n  b: 1\n  c: 2\n  b: 3\n")


def test_the_same_key_in_two_mappings_is_allowed():
    assert parse_yaml("a: {x: 1}\nb: {x: 2}\nc: [{x: 3}, {x: 4}]") == {
        "a": {"x": 1}, "b": {"x": 2}, "c": [{"x": 3}, {"x": 4}],
    }  # fmt: skip


def test_merge_keys_still_override():
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}")["b"] == {"x": 3, "y": 2}


def test_a_text_without_bound_is_refused():
    with pytest.raises(yaml.YAMLError, match="expected at most"):
        parse_yaml(" " * (LARGEST_TEXT + 1))


def test_a_contract_with_a_limit_twice_is_refused():
    text = load_contract("panda").text
    line = "  linear_velocity: 0.5 # m/s\n"
    assert line in text
    with pytest.raises(ContractError, match="'linear_velocity' stands twice"):
        parse_contract(text.replace(line, line + "  linear_velocity: 2.0\n"))


def test_safety_parameters_with_a_line_twice_are_refused():
    text = share_file(SAFETY_FILE).read_text(encoding="utf-8")
    with pytest.raises(ContractError, match="'rate_hz' stands twice"):
        parse_parameters(text.replace("timing:\n", "timing:\n  rate_hz: 50.0\n"))


def test_a_contract_that_is_not_utf_8_is_refused_by_byte(tmp_path):
    path = tmp_path / "arm.yaml"
    path.write_bytes(load_contract("panda").text.encode() + "# K\u00fcche".encode("latin-1"))
    with pytest.raises(ContractError, match=r"0xfc, expected UTF-8"):
        load_contract(path)


def test_nothing_reads_yaml_otherwise():
    sources = [path for room in ("vla_ros", "launch", "scripts", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    others = [path.relative_to(ROOT) for path in sources if path.name != "yaml_files.py"]
    found = [str(path) for path in others if any(
        word in (ROOT / path).read_text(encoding="utf-8") for word in ("yaml.safe_load", "yaml.load(", "full_load")
    )]  # fmt: skip
    assert found == []
