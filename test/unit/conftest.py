"""Another process for the tests that want one: what this one holds in memory is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

LOOP = """
import json, sys, traceback
replies, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    complaint = None
    try:
        answer(*json.loads(line))
    except Exception:
        complaint = traceback.format_exc()
    print(json.dumps(complaint), file=replies, flush=True)
"""


@pytest.fixture(scope="session")
def another_process() -> Iterator[Callable[[str], Callable[..., None]]]:
    """another_process(script): start Python on a script that defines `answer`; returns `ask`, which calls it there.

    `ask` takes what JSON holds and raises when `answer` did. To start it once for many questions spares an import of
    PyTorch for each.
    """
    with ExitStack() as running:

        def start(script: str) -> Callable[..., None]:
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", script + LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )

            def ask(*arguments: object) -> None:
                assert process.stdin is not None and process.stdout is not None
                print(json.dumps(arguments), file=process.stdin, flush=True)
                complaint = json.loads(process.stdout.readline() or '"the process has ended"')
                assert complaint is None, complaint

            return ask

        yield start
