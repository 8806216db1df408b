"""Writes episodes until something ends it.

writing_process.py FOLDER forever           one after the other; prints the number of each that is finished
writing_process.py FOLDER break-at N        dies at the N-th time that a file takes its name (kill -9 to itself)
writing_process.py FOLDER largest BYTES     no file may grow beyond that, as on a full disk
"""

import os
import resource
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]
from conftest import Demonstrations  # noqa: E402

from vla_ros.data.episodes import durable  # noqa: E402
from vla_ros.data.errors import DiskFullError  # noqa: E402
from vla_ros.data.lerobot.writer import LeRobotWriter  # noqa: E402


def dying_replace(countdown):
    genuine = os.replace

    def replace(source, target):
        nonlocal countdown
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        countdown -= 1
        genuine(source, target)

    return replace


def main(folder, way, number="0"):
    if way == "break-at":
        durable.os.replace = dying_replace(int(number))
    if way == "largest":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), resource.RLIM_INFINITY))
    try:
        with LeRobotWriter(Path(folder), Demonstrations.description, Demonstrations.sizes) as writer:
            episode = len(writer.rows)
            while episode < 60:
                writer.write(Demonstrations.episode(episode, 5 + episode % 3))
                print(episode, flush=True)
                episode += 1
    except DiskFullError as error:
        print(f"disk full: {error}", flush=True)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
