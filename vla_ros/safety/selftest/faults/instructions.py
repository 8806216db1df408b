"""Instruction faults: stops, changes in motion, chunks for other instructions, a flood."""

from __future__ import annotations

from math import ceil

from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import CHUNK_TICKS
from vla_ros.safety.selftest.trial import Fault, Trial, holds, passes
from vla_ros.types import Instruction, InstructionKind


def _instruct(trial: Trial, text: str, kind: InstructionKind = InstructionKind.TASK) -> None:
    shadow = trial.shadow
    shadow.instruction += 1
    shadow.supervisor.receive_instruction(Instruction(text, shadow.instruction, kind, shadow.stamp), shadow.now)


def _stop(trial: Trial) -> None:
    _instruct(trial, "stop", InstructionKind.STOP)
    trial.tick()


def _after_stop(trial: Trial) -> None:
    """The policy continues as if no stop had been received."""
    _stop(trial)
    trial.follow(lambda _: trial.shadow.way((0.0, 0.02, 0.0)), 3 * CHUNK_TICKS)


def _new_task(trial: Trial) -> None:
    _instruct(trial, "pick up the red cube")
    trial.tick()


def _old_task(trial: Trial) -> None:
    """Chunks for the previous task keep coming."""
    _new_task(trial)
    for _ in range(3):
        trial.send(trial.good(), instruction_sequence=0)
        trial.tick(trial.shadow.chunk_ticks)


def _unknown_task(trial: Trial) -> None:
    _instruct(trial, "pick up the red cube")
    for _ in range(3):
        trial.send(trial.good(), instruction_sequence=99)
        trial.tick(trial.shadow.chunk_ticks)


def _flood(trial: Trial) -> None:
    for i in range(200):
        _instruct(trial, f"pick up the cube {i}")
    trial.tick()


def _heart(trial: Trial, ticks: int, every: int) -> None:
    """The instruction node sends a heartbeat every `every` ticks, or never with 0; the policy continues."""
    shadow = trial.shadow
    for i in range(ticks):
        if every and i % every == 0:
            shadow.supervisor.receive_instruction_beat(shadow.supervisor.counters.ticks + 1, shadow.now)
        if i % shadow.chunk_ticks == 0:
            trial.answer(shadow.ask(shadow.way((0.0, 0.01, 0.0))))
        trial.tick()


def _timeout(trial: Trial) -> float:
    """Return the timeout of the instruction node in ticks."""
    return trial.shadow.parameters.timing.instruction_timeout / trial.shadow.period


def _node_silent(trial: Trial) -> None:
    """The instruction node hangs or crashes; the policy does not notice."""
    _heart(trial, 2, every=1)
    _heart(trial, ceil(_timeout(trial)) + 1, every=0)


def _node_late(trial: Trial) -> None:
    """The instruction node is repeatedly delayed for almost as long as allowed."""
    every = max(1, int(0.8 * _timeout(trial)))
    _heart(trial, 2 * every + 1, every=every)


def table() -> list[Fault]:
    """Return the faults of this module."""
    return [
        holds("'stop' in motion", Reason.INSTRUCTION_STOP, _stop),
        holds("chunks after 'stop'", Reason.INSTRUCTION_STOP, _after_stop),
        holds("a new instruction in motion", Reason.INSTRUCTION_NEW, _new_task),
        holds("chunks for an old instruction", Reason.INSTRUCTION_OLD, _old_task),
        holds("chunks for an unknown instruction", Reason.INSTRUCTION_UNKNOWN, _unknown_task),
        holds("200 instructions at once", Reason.INSTRUCTION_NEW, _flood),
        holds("the instruction node falls silent", Reason.INSTRUCTION_SILENT, _node_silent),
        passes("the instruction node is late", Reason.OK, _node_late),
    ]
