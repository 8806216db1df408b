import numpy as np
import pytest
import yaml

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.safety.parameters import SAFETY_FILE, load_parameters, parse_parameters

TEXT = share_file(SAFETY_FILE).read_text(encoding="utf-8")


def changed(path, value):
    values = yaml.safe_load(TEXT)
    place = values
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return yaml.safe_dump(values)


def lines():
    for section, values in yaml.safe_load(TEXT).items():
        yield (section,)
        if section != "obstacles":
            yield from ((section, name) for name in values)


def test_the_shipped_file_says_what_it_says():
    parameters = load_parameters()
    values = yaml.safe_load(TEXT)
    assert parameters.timing.period == 1.0 / values["timing"]["rate_hz"]
    assert parameters.motion.tracking_gain == values["motion"]["tracking_gain"]
    assert parameters.timing.resume_chunks == values["timing"]["resume_chunks"]
    (table,) = parameters.obstacles
    np.testing.assert_array_equal(table.dimensions, values["obstacles"]["table"]["size"])


@pytest.mark.parametrize("path", list(lines()), ids=".".join)
def test_no_line_may_be_missing(path):
    with pytest.raises(ContractError, match=path[-1]):
        parse_parameters(changed(path, None))


@pytest.mark.parametrize("path", [p for p in lines() if len(p) == 2 and p != ("collision", "enabled")], ids=".".join)
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), True, "much", [1.0]])
def test_no_number_may_be_anything_but_finite_and_above_0(path, value):
    with pytest.raises(ContractError):
        parse_parameters(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("timing", "colour"), 1.0),
        (("colour",), {}),
        (("timing", "resume_chunks"), 1.5),
        (("timing", "rate_hz"), 5.0),
        (("timing", "observation_slow_age"), 5.0),
        (("timing", "exhausted_grace"), 0.2),
        (("timing", "missed_ticks_slow"), 99),
        (("timing", "instruction_timeout"), 0),
        (("timing", "instruction_timeout"), 0.09),
        (("motion", "brake_share"), 1.1),
        (("motion", "slow_speed"), 1.1),
        (("trust", "hold"), 0.9),
        (("collision", "enabled"), "yes please"),
        (("obstacles",), ["table"]),
        (("obstacles", "table", "size"), [1.0, 1.0]),
        (("obstacles", "table", "size"), [1.0, 1.0, 0.0]),
        (("obstacles", "table", "position"), [1.0, 1.0, float("nan")]),
        (("obstacles", "table", "position"), "here"),
        (("obstacles", "table", "position"), None),
    ],
)
def test_a_wrong_line_is_refused(path, value):
    with pytest.raises(ContractError):
        parse_parameters(changed(path, value))


MOST = {
    "timing": {
        "rate_hz": 1000.0,
        "state_timeout": 0.5,
        "chunk_timeout": 5.0,
        "policy_slow": 1.0,
        "policy_timeout": 1.0,
        "inference_timeout": 5.0,
        "instruction_timeout": 2.0,
        "observation_slow_age": 5.0,
        "observation_hold_age": 5.0,
        "future_tolerance": 0.2,
        "exhausted_grace": 0.1,
        "actuation_delay": 0.5,
        "blend_time": 1.0,
        "resume_states": 1000,
        "resume_chunks": 100,
        "missed_ticks_slow": 100,
        "missed_ticks_hold": 100,
        "tick_budget": 0.01,
    },
    "motion": {
        "tracking_gain": 100.0,
        "brake_share": 1.0,
        "slow_speed": 1.0,
        "workspace_tolerance": 0.01,
        "joint_margin": 0.5,
        "follow_window": 0.5,
        "follow_tolerance": 0.2,
        "tracking_tolerance": 0.5,
        "recoverable_violation": 0.3,
        "arming_speed": 0.2,
        "corrections_hold": 1000,
    },
    "kinematics": {
        "damping": 0.5,
        "singular_damping": 1.0,
        "singular_value": 0.5,
        "posture_gain": 10.0,
        "iterations": 1000,
    },
    "gripper": {"deadband": 0.02, "reversal_time": 5.0},
    "trust": {"hold": 1.0, "slow": 1.0},
    "collision": {"self_distance": 0.2, "obstacle_distance": 0.5, "influence_distance": 2.0},
}
"""The most that every line may say, at 100 Hz."""


@pytest.mark.parametrize("path", [p for p in lines() if len(p) == 2 and p != ("collision", "enabled")], ids=".".join)
def test_no_number_is_without_an_upper_bound(path):
    section, name = path
    most = MOST[section][name]
    above = most + 1 if isinstance(most, int) else 1.01 * most
    for value in (above, 1e3 * most):
        with pytest.raises(ContractError, match=f"{name}.*expected|expected.*{name}"):
            parse_parameters(changed(path, value))


@pytest.mark.parametrize("path", [p for p in lines() if len(p) == 2 and p[0] != "trust"], ids=".".join)
def test_the_bound_itself_is_allowed(path):
    """But for what another line bounds earlier, such as a slow age by the age that holds."""
    section, name = path
    if name in (
        "enabled",
        "rate_hz",
        "policy_slow",
        "policy_timeout",
        "observation_slow_age",
        "missed_ticks_slow",
        "tick_budget",
        "follow_tolerance",
    ):
        return
    parse_parameters(changed(path, MOST[section][name]))


def test_a_bound_says_what_was_got_what_was_expected_and_why():
    with pytest.raises(ContractError, match=r"timing.state_timeout is 1000.0, expected .* at most 0.5 \(the arm moves"):
        parse_parameters(changed(("timing", "state_timeout"), 1000.0))


@pytest.mark.parametrize(("rate_hz", "most"), [(10.0, 10), (100.0, 100), (1000.0, 1000)])
def test_at_every_rate_a_second_without_a_tick_holds(rate_hz, most):
    values = yaml.safe_load(TEXT)
    values["timing"] |= {"rate_hz": rate_hz, "tick_budget": 0.5 / rate_hz, "missed_ticks_hold": most}
    parse_parameters(yaml.safe_dump(values))
    values["timing"]["missed_ticks_hold"] = most + 1
    with pytest.raises(ContractError, match="missed_ticks_hold"):
        parse_parameters(yaml.safe_dump(values))


def test_a_robot_in_free_space_has_no_obstacles():
    values = yaml.safe_load(TEXT) | {"obstacles": None}
    assert parse_parameters(yaml.safe_dump(values)).obstacles == ()


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ContractError, match="nowhere"):
        load_parameters("config/nowhere.yaml")
