"""Arming self-test: runs the fault table in a child process and keeps its result."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from vla_ros.priority import without_realtime
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.selftest.record import UNDER_WAY, SelftestRecord, examine, fingerprint, keep

LIMIT = 900.0
"""Timeout of one run, s; it has the lowest priority, so a busy machine delays it."""


class ArmingSelftest:
    """Runs the fault table for one contract and set of parameters; the result may be read from any thread."""

    def __init__(
        self, contract: RobotContract, parameters: SafetyParameters, robot: str, safety: str, folder: Path
    ) -> None:
        """Prepare the self-test.

        Args:
            contract: Contract that the node uses.
            parameters: Parameters that the node uses.
            robot: Source of the contract: the child process reads it again, and must obtain the same fingerprint.
            safety: Source of the parameters.
            folder: Folder in which passes are stored.
        """
        self._command = [sys.executable, "-m", "vla_ros.safety.selftest.process", "--robot", robot, "--safety", safety]
        self._folder, self._mark = folder, fingerprint(contract, parameters)
        self._change = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._record: SelftestRecord | None = None
        self._failure = ""
        self.not_recalled = ""  # why no stored pass is valid
        self._done, self._total = 0, 0

    def recall(self, max_age: float) -> bool:
        """Use a stored pass that is at most `max_age` s old; return False if there is none."""
        self._record, self.not_recalled = examine(self._folder, self._mark, max_age)
        return self._record is not None

    def start(self, finished: Callable[[str], None]) -> bool:
        """Run the fault table in the background; return False if it is already running.

        Args:
            finished: Called at the end, in another thread, with "" or why the robot must not be armed.
        """
        with self._change:
            if self._process is not None or self._closed:
                return False
            self._record, self._failure, self._done, self._total = None, "", 0, 0
            with without_realtime():  # inherited by the process
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    start_new_session=True,  # outside the high-priority session
                )
        threading.Thread(target=self._read, args=(self._process, finished), name="self-test", daemon=True).start()
        return True

    def complaint(self) -> str:
        """Return why the robot must not be armed; "" once every fault was stopped."""
        with self._change:
            if self._process is not None:
                return f"{UNDER_WAY}: {self._done} of {self._total or '?'} faults tried"
            if self._record is None:
                return self._failure or "the self-test has not been run"
            if self._record.missed:
                return f"the self-test missed {len(self._record.missed)} faults: {'; '.join(self._record.missed)}"[:500]
            if not self._record.passed:
                return "the self-test did not try every fault that this node knows: start the node again"
            return ""

    def sentence(self) -> str:
        """Return the human-readable status."""
        if complaint := self.complaint():
            return complaint
        with self._change:
            record = self._record
        if record is None:  # just restarted
            return "under way"
        return f"{record.tried} faults stopped, {time.time() - record.finished:.0f} s ago"

    def close(self) -> None:
        """End a running self-test."""
        with self._change:
            self._closed = True
            process = self._process
        if process is not None:
            process.kill()
            process.wait(timeout=5.0)

    def _read(self, process: subprocess.Popen[str], finished: Callable[[str], None]) -> None:
        limit = threading.Timer(LIMIT, process.kill)
        limit.daemon = True
        limit.start()
        record, rest = None, ""
        for line in process.stdout or ():
            try:
                values = json.loads(line)
                record = self._take(values, record)
            except (ValueError, TypeError, KeyError):
                rest = (rest + line)[-400:]
        code = process.wait()
        overdue = limit.finished.is_set()
        limit.cancel()
        if overdue:
            rest = f"{LIMIT:.0f} s are over, the machine is busy with something else: end that, and call /vla/selftest"
        with self._change:
            self._process = None
            self._record, self._failure = self._conclude(record, code, rest)
            if self._record is not None:
                keep(self._folder, self._record)
            if self._closed:
                return
        finished(self.complaint())

    def _take(self, values: dict[str, object], record: SelftestRecord | None) -> SelftestRecord | None:
        with self._change:
            self._total = int(str(values.get("total", self._total)))
            self._done += "row" in values
        if "record" not in values:
            return record
        made = values["record"]
        if not isinstance(made, dict):
            raise TypeError("a record is an object")
        missed, stopped = tuple(made["missed"]), tuple(made["stopped"])
        return SelftestRecord(made["fingerprint"], made["tried"], missed, made["finished"], stopped)

    def _conclude(self, record: SelftestRecord | None, code: int, rest: str) -> tuple[SelftestRecord | None, str]:
        if record is None or code != 0:
            how = signal.Signals(-code).name if code < 0 else str(code)
            return None, f"the self-test did not come to its end ({how}): {rest.strip()}".rstrip(": ")
        if record.fingerprint != self._mark:
            return None, "the self-test was run on another contract, other parameters or other code than this node's"
        return record, ""
