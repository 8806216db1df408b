from __future__ import annotations

import threading

from vla_ros.nodes.safety import arming_selftest as safety_selftest
from vla_ros.nodes.safety.arming_selftest import ArmingSelftest
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import SAFETY_FILE, load_parameters


def test_a_run_that_takes_too_long_says_why_it_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(safety_selftest, "LIMIT", 0.2)
    safety = str(share_file(SAFETY_FILE))
    selftest = ArmingSelftest(load_contract("panda"), load_parameters(safety), "panda", safety, tmp_path)
    done, said = threading.Event(), []
    try:
        selftest.start(lambda complaint: (said.append(complaint), done.set()))
        assert done.wait(60.0)
    finally:
        selftest.close()
    assert "0 s are over, the machine is busy with something else" in said[0]
    assert "SIGKILL" in said[0]
    assert not list(tmp_path.rglob("*.json"))
