"""Every permitted setting of the documented deadlines can be armed: the rows of the table adapt to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vla_ros.errors import ContractError
from vla_ros.safety.selftest.faults import policies
from vla_ros.safety.selftest.table import run_faults

HEARTBEATS = [(0.02, 0.03), (0.05, 0.08), (0.05, 0.06), (0.1, 0.2), (0.2, 0.3), (0.02, 0.34), (0.33, 0.34)]
"""`policy_slow` and `policy_timeout`, s: smallest of use, shipped, for a slow machine, largest."""

SETTINGS = [
    {"policy_slow": 0.5, "policy_timeout": 1.0, "inference_timeout": 1.1},
    *({"policy_slow": slow, "policy_timeout": timeout} for slow, timeout in HEARTBEATS),
    *({"inference_timeout": value} for value in (0.09, 0.1, 2.0, 5.0)),
    *({"chunk_timeout": value} for value in (0.3, 1.3, 5.0)),
    {"policy_slow": 0.99, "policy_timeout": 1.0, "inference_timeout": 5.0, "chunk_timeout": 5.0},
    {"policy_slow": 0.02, "policy_timeout": 0.03, "inference_timeout": 0.06, "chunk_timeout": 0.3},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("rate_hz", [50.0, 100.0])
def test_documented_deadlines_can_be_armed(contract, parameters, setting, rate_hz):
    ticks = {"rate_hz": rate_hz} if rate_hz != parameters.timing.rate_hz else {}
    timing = replace(parameters.timing, **ticks, **setting)
    rows = run_faults(contract, replace(parameters, timing=timing), policies.table())
    assert [f"{row.name}: expected {row.expected}, {row.sentence}" for row in rows if not row.stopped] == []


def test_a_timeout_that_never_acts_is_refused(parameters):
    """A policy that is not heard of has not got on either: it counts as stuck before it counts as silent."""
    with pytest.raises(ContractError, match=r"policy_timeout is 0\.5, expected less than inference_timeout \(0\.35\)"):
        replace(parameters.timing, policy_slow=0.4, policy_timeout=0.5)


@pytest.mark.parametrize("rate_hz", [50.0, 250.0])
def test_every_fault_is_stopped_at_other_rates(contract, parameters, rate_hz):
    timing = replace(parameters.timing, rate_hz=rate_hz, tick_budget=min(parameters.timing.tick_budget, 0.5 / rate_hz))
    rows = run_faults(contract, replace(parameters, timing=timing))
    assert [f"{row.name}: expected {row.expected}, {row.sentence}" for row in rows if not row.stopped] == []
