"""Writes config/security/policy.xml; for another robot than the shipped one: write_security_policy.py ur5e."""

from __future__ import annotations

import sys
from pathlib import Path

from vla_ros.bringup.security_policy import policy
from vla_ros.robot.contract import load_contract

FILE = Path(__file__).resolve().parent.parent / "config" / "security" / "policy.xml"

if __name__ == "__main__":
    FILE.write_text(policy(load_contract(sys.argv[1] if len(sys.argv) > 1 else "panda")), encoding="utf-8")
    print(FILE)
