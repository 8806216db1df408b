"""A refused message is logged at once, and a flood of them once a second with how many there were."""

from __future__ import annotations

from vla_ros.ros.refusals import KINDS, PERIOD, RejectionLog


class Log:
    """Keeps what is told, and is the clock."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 0.0

    def refusals(self) -> RejectionLog:
        return RejectionLog(self.lines.append, lambda: self.now)


def test_the_first_of_a_kind_is_told_at_once_whatever_the_others_do() -> None:
    log = Log()
    refusals = log.refusals()
    for number in range(9):
        refusals.note("chunk: nan", f"chunk {number}: nan")
    refusals.note("chunk: old", "chunk 9: old")
    assert log.lines == ["chunk 0: nan", "chunk 9: old"]


def test_a_flood_is_a_line_a_period_and_every_message_is_counted() -> None:
    log = Log()
    refusals = log.refusals()
    for tick in range(100):  # ten periods of ten messages each
        log.now = tick * PERIOD / 10
        refusals.catch_up()
        refusals.note("chunk: nan", f"chunk {tick}: nan")
    assert len(log.lines) == 10
    log.now += PERIOD
    refusals.catch_up()
    counted = sum(1 + int(line.partition("(and ")[2].partition(" ")[0] or 0) for line in log.lines)
    assert counted == 100


def test_what_was_left_out_is_told_when_nothing_follows() -> None:
    log = Log()
    refusals = log.refusals()
    for number in range(3):
        refusals.note("chunk: nan", f"chunk {number}: nan")
    log.now = 0.99 * PERIOD
    refusals.catch_up()
    assert log.lines == ["chunk 0: nan"]
    log.now = PERIOD
    refusals.catch_up()
    refusals.catch_up()
    assert log.lines[1:] == ["chunk 2: nan (and 1 more since the last such line)"]


def test_kinds_without_end_take_no_memory_without_end_and_fill_no_log() -> None:
    log = Log()
    refusals = log.refusals()
    for number in range(10 * KINDS):
        refusals.note(f"kind {number}", f"message {number}")
    assert len(log.lines) == KINDS + 1
    log.now = PERIOD
    refusals.catch_up()
    assert log.lines[KINDS + 1 :] == [f"message {10 * KINDS - 1} (and {9 * KINDS - 2} more since the last such line)"]
