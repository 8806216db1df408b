"""The SROS2 policy against the running graph: nobody needs a topic that the policy does not give."""

import time

import pytest

from vla_ros.bringup.runner import GraphRunner
from vla_ros.bringup.security_policy import rights_of_the_graph
from vla_ros.robot.contract import load_contract

COMMON = {"/rosout", "/parameter_events", "/diagnostics", "/clock"}


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    everything = {"seed": 1, "trace": True, "console": True, "console_port": 0}
    with GraphRunner(everything, folder=tmp_path_factory.mktemp("policy")) as graph:
        yield graph


NOW_AND_THEN = {
    "action_node": {"/vla/policy_status"},
    "console_node": {"/vla/observation", "/camera/front/image_raw", "/camera/wrist/image_raw"},
}
"""What a node hears only while it has something to do with it: a goal; an episode to record, and pages that look."""


@pytest.mark.parametrize(
    "node",
    [
        "perception_node",
        "instruction_node",
        "safety_node",
        "policy_node",
        "action_node",
        "trace_node",
        "console_node",
    ],
)
def test_a_node_uses_exactly_what_it_is_allowed_to(graph, node):
    rights = rights_of_the_graph(load_contract("panda"))[node]
    end = time.monotonic() + 20.0
    while True:
        said = {n for n, _ in graph.node.get_publisher_names_and_types_by_node(node, "/")}
        heard = {n for n, _ in graph.node.get_subscriber_names_and_types_by_node(node, "/")}
        own = {n for n in said if n.startswith(f"/{node}/") or "/_action/" in n}
        always = set(rights.subscribe) - COMMON - NOW_AND_THEN.get(node, set())
        if said - COMMON - own == set(rights.publish) and heard - COMMON == always:
            break
        assert time.monotonic() < end, (said - COMMON - own, rights.publish, heard - COMMON, rights.subscribe)
        time.sleep(0.2)
    services = {n for n, _ in graph.node.get_service_names_and_types_by_node(node, "/")}
    served = {n for n in services if not n.startswith(f"/{node}/") and "/_action/" not in n}
    assert served == set(rights.reply)
    actions = {n.split("/_action/")[0] for n in services if "/_action/" in n}
    assert actions == set(rights.execute)
