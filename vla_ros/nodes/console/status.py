"""Converts the graph's status messages to plain JSON values without NaN for the console's pages."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from vla_ros.msg import Instruction, PolicyStatus, SafetyStatus, TaskStatus

POLICY_STATES = {
    PolicyStatus.IDLE: "IDLE",
    PolicyStatus.RUNNING: "RUNNING",
    PolicyStatus.WAITING: "WAITING",
    PolicyStatus.FAULT: "FAULT",
}
LEVELS = {
    DiagnosticStatus.OK: "ok",
    DiagnosticStatus.WARN: "warning",
    DiagnosticStatus.ERROR: "error",
    DiagnosticStatus.STALE: "stale",
}


def finite(value: float) -> float | None:
    """Round to six significant digits; return None for NaN and infinity."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _all_finite(values: Iterable[float]) -> list[float | None]:
    return [finite(float(value)) for value in values]


def safety_status(message: SafetyStatus, age: float) -> dict[str, Any]:
    """Convert a safety status received `age` s ago; units as in the message."""
    names = [str(name) for name in message.margin_names]
    return {
        "age": finite(age),
        "state": str(message.state_name),
        "reason": str(message.reason),
        "sentence": str(message.sentence),
        "armed": bool(message.armed),
        "observation_age": finite(message.observation_age) if message.observation_age >= 0.0 else None,
        "speed_scale": finite(message.speed_scale),
        "axes": [str(axis) for axis in message.axes],
        "proposed": _all_finite(message.proposed),
        "executed": _all_finite(message.executed),
        "margins": dict(zip(names, _all_finite(message.margins), strict=False)),
        "tick": int(message.tick),
        "missed_ticks": int(message.missed_ticks),
        "commands": int(message.commands),
        "corrections": int(message.corrections),
        "rejected_chunks": int(message.rejected_chunks),
    }


def policy_status(message: PolicyStatus, age: float) -> dict[str, Any]:
    """Convert a policy status received `age` s ago; latencies in ms."""
    return {
        "age": finite(age),
        "state": POLICY_STATES.get(message.state, str(message.state)),
        "name": str(message.policy),
        "device": str(message.device),
        "sentence": str(message.sentence),
        "confidence": finite(message.trust),
        "inferences": int(message.inferences),
        "inference_ms_p50": finite(message.inference_ms_p50),
        "inference_ms_p99": finite(message.inference_ms_p99),
    }


def task_status(message: TaskStatus, age: float) -> dict[str, Any]:
    """Convert a success checker's verdict received `age` s ago."""
    return {
        "age": finite(age),
        "instruction": str(message.instruction),
        "success": bool(message.success),
        "progress": finite(message.progress),
        "detail": str(message.detail),
    }


def instruction(message: Instruction) -> dict[str, Any]:
    """Convert the current instruction."""
    return {"number": int(message.sequence), "text": str(message.text), "stop": message.kind == Instruction.STOP}


def health_line(message: DiagnosticStatus, age: float) -> dict[str, Any]:
    """Convert one entry of /diagnostics received `age` s ago."""
    return {
        "name": str(message.name),
        "level": LEVELS.get(message.level, "error"),
        "text": str(message.message),
        "age": finite(age),
        "values": {str(pair.key): str(pair.value) for pair in message.values[:16]},
    }
