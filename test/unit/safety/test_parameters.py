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


def test_a_robot_in_free_space_has_no_obstacles():
    values = yaml.safe_load(TEXT) | {"obstacles": None}
    assert parse_parameters(yaml.safe_dump(values)).obstacles == ()


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ContractError, match="nowhere"):
        load_parameters("config/nowhere.yaml")
