"""An operator who arms: while the self-test is under way it is said how far it is, and waited for."""

from __future__ import annotations

from std_srvs.srv import SetBool

from vla_ros.bringup.runner import RosLink
from vla_ros.client.observer import Observer
from vla_ros.client.operator_client import Operator
from vla_ros.ros.dds.domains import claim_domain
from vla_ros.safety.selftest.record import UNDER_WAY


def test_how_far_the_self_test_is_is_told_until_it_is_over():
    domain, claim = claim_domain()
    answers = [
        (False, f"{UNDER_WAY}: 3 of 9 faults tried"),
        (False, f"{UNDER_WAY}: 8 of 9 faults tried"),
        (True, "armed"),
    ]
    waiting = iter(answers)

    def answer(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        assert request.data
        response.success, response.message = next(waiting)
        return response

    with claim:
        link = RosLink("console", domain)
        try:
            link.node.create_service(SetBool, "vla/arm", answer)
            told: list[str] = []
            Operator(link.node, Observer(link.node)).arm(30.0, told.append)
        finally:
            link.close()
    assert told == [message for ready, message in answers if not ready]
