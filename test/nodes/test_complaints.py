"""A trouble is said when it begins, once in a while when it lasts, and never once per message."""

from __future__ import annotations

from vla_ros.ros.throttled_logger import REMINDER_PERIOD, SHORTEST_PERIOD, ThrottledLogger


class Log:
    """Keeps what is logged, and is the clock."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 0.0

    def warning(self, line: str) -> None:
        self.lines.append(f"warning {line}")

    def info(self, line: str) -> None:
        self.lines.append(f"info {line}")

    def complaints(self) -> ThrottledLogger:
        return ThrottledLogger(self, lambda: self.now)


def test_a_trouble_is_said_once_and_then_again_after_a_while() -> None:
    log = Log()
    complaints = log.complaints()
    for tick in range(int(100 * REMINDER_PERIOD)):
        log.now = 0.01 * tick
        complaints.report("camera", "black", f"black since {tick}")
    assert log.lines == ["warning camera: black since 0"]
    log.now = REMINDER_PERIOD
    complaints.report("camera", "black", "still black")
    assert log.lines[1:] == ["warning camera: still black"]


def test_another_trouble_is_said_at_once_and_the_end_too() -> None:
    log = Log()
    complaints = log.complaints()
    complaints.report("camera", "black", "black")
    log.now = SHORTEST_PERIOD
    complaints.report("camera", "stale", "stale")
    log.now = 2 * SHORTEST_PERIOD
    complaints.settle("camera")
    log.now = 3 * SHORTEST_PERIOD
    complaints.settle("camera")
    assert log.lines == ["warning camera: black", "warning camera: stale", "info camera: well again"]


def test_subjects_do_not_silence_each_other() -> None:
    log = Log()
    complaints = log.complaints()
    complaints.report("front", "black", "black")
    complaints.report("wrist", "black", "black")
    assert len(log.lines) == 2


def test_a_trouble_that_comes_and_goes_with_every_message_fills_no_log() -> None:
    log = Log()
    complaints = log.complaints()
    for tick in range(1000):
        log.now = 0.01 * tick
        complaints.settle("camera")
        complaints.report("camera", "black" if tick % 3 else "stale", "bad")
    assert 2 <= len(log.lines) <= 10.0 / SHORTEST_PERIOD


def test_what_was_never_wrong_needs_no_all_clear() -> None:
    log = Log()
    log.complaints().settle("camera")
    assert log.lines == []
