"""How long a safety node that is deactivated waits for its arm."""

from __future__ import annotations

import sys
from pathlib import Path

from vla_ros.nodes.safety_node import END_RESERVE
from vla_ros.robot.contract import load_contract
from vla_ros.ros.lifecycle import END_GRACE
from vla_ros.safety.contact.contact_reaction import longest_rest
from vla_ros.safety.parameters import load_parameters

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path, not from their folder
from test_estop_input import Site, site

__all__ = ["site"]


def test_it_waits_as_long_as_a_way_back_from_a_contact_may_take(site: Site) -> None:
    site.node.trigger_configure()
    period = load_parameters().timing.period
    assert site.node._rest_timeout > longest_rest(load_contract(site.node.default_robot), period)


def test_a_process_that_ends_has_time_to_free_the_rest() -> None:
    assert 0.0 < END_RESERVE < END_GRACE
