from __future__ import annotations

import contextlib
import datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.safety.parameters import SAFETY_FILE, parse_parameters
from vla_ros.yaml_files import LARGEST_TEXT, parse_yaml, read_yaml

ROOT = Path(__file__).parents[2]


def test_a_duplicate_key_is_refused_with_both_lines():
    with pytest.raises(yaml.YAMLError, match=r"'b' stands twice, in line 2 and in line 4"):
        parse_yaml("a:\n  b: 1\n  c: 2\n  b: 3\n")


def test_the_same_key_in_two_mappings_is_allowed():
    assert parse_yaml("a: {x: 1}\nb: {x: 2}\nc: [{x: 3}, {x: 4}]") == {
        "a": {"x": 1},
        "b": {"x": 2},
        "c": [{"x": 3}, {"x": 4}],
    }


def test_merge_keys_still_override():
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}")["b"] == {"x": 3, "y": 2}


def test_a_text_without_bound_is_refused():
    with pytest.raises(yaml.YAMLError, match="expected at most"):
        parse_yaml(" " * (LARGEST_TEXT + 1))


def test_a_contract_with_a_limit_twice_is_refused():
    text = load_contract("panda").text
    line = "  linear_velocity: 0.5 # m/s\n"
    assert line in text
    with pytest.raises(ContractError, match=r"^robot contract: line \d+, cartesian: 'linear_velocity' stands twice"):
        parse_contract(text.replace(line, line + "  linear_velocity: 2.0\n"))


def test_safety_parameters_with_a_line_twice_are_refused():
    text = share_file(SAFETY_FILE).read_text(encoding="utf-8")
    with pytest.raises(ContractError, match=r"^safety parameters: line \d+, timing: 'rate_hz' stands twice"):
        parse_parameters(text.replace("timing:\n", "timing:\n  rate_hz: 50.0\n"))


@pytest.mark.parametrize(
    ("text", "is_yaml"),
    [
        ("a: [", False),
        ("a: \tb: c", False),
        ("a: *b", False),
        ("a: \x07", False),
        ("a: 1\na: 2", True),
        ("a: &b [*b]", True),
        ("a: 2001-99-99", True),
        ("a: !!set {b}", True),
        ("[" * 40, True),
        (" " * (LARGEST_TEXT + 1), True),
    ],
)
def test_only_wrong_syntax_is_called_no_yaml(tmp_path, text, is_yaml):
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    for read in (lambda: read_yaml(path, "a file"), lambda: parse_contract(text), lambda: parse_parameters(text)):
        with pytest.raises(ContractError) as caught:
            read()
        assert ("not YAML" in str(caught.value)) is not is_yaml


def test_a_contract_that_is_not_utf_8_is_refused_by_byte(tmp_path):
    path = tmp_path / "arm.yaml"
    path.write_bytes(load_contract("panda").text.encode() + "# K\u00fcche".encode("latin-1"))
    with pytest.raises(ContractError, match=r"0xfc, expected UTF-8"):
        load_contract(path)


def test_nothing_reads_yaml_otherwise():
    sources = [path for room in ("vla_ros", "launch", "scripts", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    others = [path.relative_to(ROOT) for path in sources if path.name != "yaml_files.py"]
    found = [
        str(path)
        for path in others
        if any(
            word in (ROOT / path).read_text(encoding="utf-8")
            for word in ("yaml.safe_load", "yaml.load(", "full_load", "parse_yaml(path", "parse_yaml(Path")
        )
    ]
    assert found == []


BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGES = "b0: &b0 {x: 1, y: 2}\n" + "".join(
    f"b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * 10)}]}}\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: {b: [1, 2001-99-99]}", r"line 1, a\.b\[1\]: '2001-99-99' is no timestamp"),
        ("a:\n  b: !!bool perhaps", r"line 2, a\.b: 'perhaps' is no bool"),
        ("a:\n  b: !!int many", r"line 2, a\.b: 'many' is no int"),
        ("a: !!float x", "line 1, a: 'x' is no float"),
        ("- !!python/object/apply:os.system [ls]", r"line 1, \[0\]: a collection of the kind"),
        ("a: !!set {b, c}", "line 1, a: a collection of the kind"),
        ("a: !unknown 1", "line 1, a: could not determine a constructor"),
        ("a: &a [1, *a]", r"line 1, a\[1\]: it contains itself"),
        ("a: &a\n  b: {c: *a}", r"line 1, a\.b\.c: it contains itself|line 2, a\.b\.c: it contains itself"),
        ("a: {b: 1, c: {d: 2, d: 3}}", r"line 1, a\.c: 'd' stands twice"),
        ("a: {2001-99-99: 1}", r"line 1, a\.2001-99-99: '2001-99-99' is no timestamp"),
        ("a: {[1, 2]: 3}", "line 1, a: a key is a list or a mapping"),
        ("a: {<<: 1}", "line 1, a.<<: expected a mapping"),
        ("a: 1\nb: [1,\nc: 2", "line 3"),
        ("[" * 5000, "line 1: more than 32 collections inside of each other"),
        ("{a: " * 5000, "more than 32 collections inside of each other"),
        ("- " * 5000, "more than 32 collections inside of each other"),
        ("\n".join(" " * i + "a:" for i in range(500)), "line 3[0-9]: more than 32 collections"),
        (BOMB, r"more than 100000 values"),
        (MERGES, r"more than 100000 values"),
        ("x: 0x\n" * 2, "stands twice"),
        ("a: \x00", "special characters are not allowed|unacceptable character"),
        ("a: 1\n---\nb: 2", "expected a single document"),
    ],
)
def test_what_cannot_be_read_says_where(text, says):
    with pytest.raises(yaml.YAMLError, match=says):
        parse_yaml(text)
    with pytest.raises(ContractError, match=r"arm\.yaml: "):
        parse_contract(text, where="arm.yaml")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "topics.yaml").write_text("camera: {depth: 2001-99-99}", encoding="utf-8")
    with pytest.raises(
        ContractError, match=r"topics topics\.yaml: line 1, camera\.depth: '2001-99-99' is no timestamp"
    ):
        read_yaml(tmp_path / "topics.yaml", "topics")


def test_a_nesting_through_aliases_is_bounded_too():
    lines = ["a0: &a0 [1]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 60))]
    with pytest.raises(yaml.YAMLError, match="more than 32 collections inside of each other, by aliases"):
        parse_yaml("\n".join(lines))


def test_what_configuration_needs_is_well_within_the_bounds():
    deep = "[" * 25 + "1" + "]" * 25
    assert parse_yaml(f"a: {deep}")["a"] is not None
    assert len(parse_yaml(str(list(range(5_000))))) == 5_000
    assert parse_yaml("a: &x {b: 1}\nc: [*x, *x]\nd: 2001-12-14") == {
        "a": {"b": 1},
        "c": [{"b": 1}, {"b": 1}],
        "d": datetime.date(2001, 12, 14),
    }
    assert parse_yaml("") is None


@given(st.text(alphabet="[]{}:,-&*!<>|#'\"\n\t abx019.%@`?~=", max_size=60))
@settings(max_examples=500, deadline=None)
def test_no_text_raises_anything_else(text):
    with contextlib.suppress(yaml.YAMLError):
        parse_yaml(text)
