"""How the runner keeps graphs apart: domains, claims, environments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from vla_ros.bringup.runner import STATE_FILE, GraphRunner, RosLink, graph_environment
from vla_ros.bringup.running_graphs import RunningGraph, running_graphs
from vla_ros.ros.dds import domains as dds_domains
from vla_ros.ros.dds.domains import claim_domain, free_domain, release_domains
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.transitions import GraphError

DEADLINE = 60.0  # s


def test_claims_do_not_overlap_and_end_when_they_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    domain, claim = claim_domain()
    monkeypatch.setattr(dds_domains, "_DOMAINS", range(domain, domain + 1))
    with pytest.raises(GraphError, match="in use"):
        claim_domain()
    claim.close()
    again, claim = claim_domain()
    assert again == domain
    claim.close()


def test_a_process_can_give_back_what_it_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = free_domain()
    monkeypatch.setattr(dds_domains, "_DOMAINS", range(domain, domain + 1))
    with pytest.raises(GraphError, match="in use"):
        free_domain()
    release_domains()
    assert free_domain() == domain
    release_domains()


def test_a_domain_where_somebody_listens_is_in_use_also_after_the_first_one_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    domain, claim = claim_domain()
    claim.close()
    first, second = RosLink("first", domain), RosLink("second", domain)
    try:
        monkeypatch.setattr(dds_domains, "_DOMAINS", range(domain, domain + 1))
        with pytest.raises(GraphError, match="in use"):
            claim_domain()
        first.close()
        with pytest.raises(GraphError, match="in use"):
            claim_domain()
    finally:
        second.close()


def test_a_link_hears_on_while_another_thread_destroys_what_it_waits_for() -> None:
    domain, claim = claim_domain()
    claim.close()
    link = RosLink("destroyer", domain)
    heard: list[Bool] = []
    try:
        link.node.create_subscription(Bool, "kept", heard.append, 1)
        kept = link.node.create_publisher(Bool, "kept", 1)
        passing = link.node.create_publisher(Bool, "passing", 1)
        event = passing.event_handlers[0]
        wait_for_it = event.add_to_wait_set

        def destroy_first(wait_set: Any) -> None:
            destroyer = threading.Thread(target=link.node.destroy_publisher, args=(passing,))
            destroyer.start()
            destroyer.join()
            destroyed.set()
            wait_for_it(wait_set)

        destroyed = threading.Event()
        event.add_to_wait_set = destroy_first
        kept.publish(Bool(data=True))
        assert destroyed.wait(DEADLINE)
        heard.clear()
        end = time.monotonic() + DEADLINE
        while not heard:
            assert time.monotonic() < end, "the thread that spins has ended"
            kept.publish(Bool(data=True))
            time.sleep(0.01)
    finally:
        link.close()


def test_two_graphs_cannot_share_a_domain_that_was_asked_for(tmp_path: Path) -> None:
    domain, claim = claim_domain()
    claim.close()
    nothing = Graph({}, ())
    shared = pytest.raises(GraphError, match=f"domain {domain} is used by another graph")
    first = GraphRunner(graph=nothing, domain=domain, folder=tmp_path / "a")
    with first, shared:
        GraphRunner(graph=nothing, domain=domain, folder=tmp_path / "b")
    with GraphRunner(graph=nothing, domain=domain, folder=tmp_path / "b"):
        pass


def test_two_graphs_cannot_share_a_folder(tmp_path: Path) -> None:
    nothing, note = Graph({}, ()), tmp_path / STATE_FILE
    with GraphRunner(graph=nothing, folder=tmp_path) as first:
        told = note.read_text(encoding="utf-8")
        second = GraphRunner(graph=nothing, folder=tmp_path)
        with pytest.raises(GraphError, match=f"process {os.getpid()} in domain {first.domain}: end it, or choose"):
            second.start()
        assert note.read_text(encoding="utf-8") == told
        assert RunningGraph(str(tmp_path), first.domain, os.getpid()) in running_graphs()
    assert not note.exists()
    assert str(tmp_path) not in {graph.folder for graph in running_graphs()}
    with GraphRunner(graph=nothing, folder=tmp_path):
        assert note.exists()


def test_what_a_killed_graph_left_in_its_folder_is_no_obstacle(tmp_path: Path) -> None:
    text = (
        "import sys, time\nfrom vla_ros.bringup.runner import GraphRunner\n"
        "from vla_ros.ros.graph.description import Graph\n"
        "with GraphRunner(graph=Graph({}, ()), folder=sys.argv[1]): print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", text, str(tmp_path)], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        assert json.loads((tmp_path / STATE_FILE).read_text(encoding="utf-8"))["pid"] == killed.pid
        with pytest.raises(GraphError, match=f"process {killed.pid} in domain"):
            GraphRunner(graph=Graph({}, ()), folder=tmp_path).start()
        killed.kill()
    assert (tmp_path / STATE_FILE).exists()
    with GraphRunner(graph=Graph({}, ()), folder=tmp_path):
        assert json.loads((tmp_path / STATE_FILE).read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_the_robot_is_disarmed_when_a_node_was_started_again(tmp_path: Path) -> None:
    asked: list[bool] = []

    def answer(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        asked.append(request.data)
        response.success = True
        return response

    shipped = load_graph()
    alone = Graph(
        {**shipped.arguments, "use_sim_time": False}, tuple(n for n in shipped.nodes if n.name == "instruction_node")
    )
    with GraphRunner(graph=alone, simulation="", folder=tmp_path, disarms=True) as runner:
        runner.node.create_service(SetBool, "/vla/arm", answer)
        looking = runner.node.create_client(SetBool, "/vla/arm")
        assert looking.wait_for_service(DEADLINE)
        runner.process("instruction_node").signal(signal.SIGKILL)
        end = time.monotonic() + DEADLINE
        while not asked:
            assert time.monotonic() < end, "nobody asked to disarm"
            time.sleep(0.05)
        assert asked == [False]


def test_joining_a_domain_does_not_send_later_processes_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "3")
    domain = free_domain()
    link = RosLink("guest", domain)
    link.close()
    assert os.environ["ROS_DOMAIN_ID"] == "3"
    assert graph_environment(domain)["ROS_DOMAIN_ID"] == str(domain)


def test_the_users_own_middleware_profile_is_kept(tmp_path: Path) -> None:
    mine = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(tmp_path / "mine.xml")}
    assert graph_environment(5, mine)["FASTRTPS_DEFAULT_PROFILES_FILE"] == str(tmp_path / "mine.xml")
    assert Path(graph_environment(5, {})["FASTRTPS_DEFAULT_PROFILES_FILE"]).exists()
    assert graph_environment(5, {})["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
