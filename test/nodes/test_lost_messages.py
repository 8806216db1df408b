"""How soon a reliable message that was lost on its way through shared memory is sent again, by the shipped profile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from vla_ros.paths import share_file
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.dds.profile import MESSAGES_PROFILE, PROFILE_VARIABLE

SCRIPT = Path(__file__).with_name("counting_process.py")
COUNT = 800
"""Messages, more than the queue of a participant holds."""


def start(profile: Path, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {PROFILE_VARIABLE: str(profile), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def repaired_after(profile: Path) -> float:
    """Return the time until the last message has come, s; the run has a deadline."""
    domain = free_domain()
    with start(profile, "listen", domain) as listener:
        try:
            assert listener.stdout.readline() == "ready\n"
            with start(profile, "speak", domain, listener.pid, COUNT) as speaker:
                try:
                    assert speaker.stdout.readline() == "sent\n"
                    began = time.monotonic()
                    heard = [0]
                    while heard[-1] != COUNT - 1:
                        heard.append(int(listener.stdout.readline()))
                    assert heard[-COUNT + 1 :] == list(range(1, COUNT))
                    return time.monotonic() - began
                finally:
                    speaker.kill()
        finally:
            listener.kill()


def test_a_lost_message_comes_sooner_than_with_the_heartbeats_of_the_middleware(tmp_path: Path) -> None:
    shipped, usual = Path(share_file(MESSAGES_PROFILE)), tmp_path / "usual.xml"
    text = shipped.read_text(encoding="utf-8")
    usual.write_text(re.sub("<data_writer .*</data_writer>", "", text, flags=re.DOTALL), encoding="utf-8")
    assert len(usual.read_text(encoding="utf-8")) < len(text)
    assert repaired_after(shipped) < 0.5 * repaired_after(usual)
