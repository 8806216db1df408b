"""Renders a run as one self-contained HTML page: events with explanations, plots, images.

Everything is embedded: style, plots as SVG, images as data URIs; no scripts, nothing is fetched. Texts of the trace are
untrusted and always escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from vla_ros.insight.explain import (
    ANSWERS,
    CHUNK,
    POLICY,
    REJECTED,
    SAFETY,
    TASK,
    TOOL_UNITS,
    Change,
    Moment,
    clock_time,
    differences,
    explain,
    naming_other_version,
)
from vla_ros.insight.trace.layout import INCIDENT_TOPIC, OBSERVATION_TOPIC
from vla_ros.insight.trace.reader import NS, Trace

MOST_POINTS = 1500
"""Largest number of points per line of a plot."""

MOST_MOMENTS = 40
"""Largest number of moments explained with images: the first and the last ones of a longer run."""

MOST_AXES = 6
"""Largest number of axes whose commands are plotted: those that differ most from the proposal."""

AFTER_CHANGE = 0.1
"""Delay after a change at which it is explained, s: its images have arrived by then."""

JPEG = b"\xff\xd8"
WIDTH, HEIGHT, LEFT, BOTTOM = 960, 150, 64, 22
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
STATE_COLORS = {"DISARMED": "#9aa0a6", "RUN": "#2e9e5b", "SLOW": "#e0a100", "HOLD": "#d2691e", "ESTOP": "#c62828"}

STYLE = """
:root{color-scheme:light dark;--fg:#1d1f21;--bg:#fff;--soft:#667;--line:#d5d8dc}
@media(prefers-color-scheme:dark){:root{--fg:#e6e6e6;--bg:#17191c;--soft:#9aa0a6;--line:#3a3f45}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:1000px;
margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}svg{width:100%;height:auto}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}.grid{stroke:var(--line)}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.25em .6em;
border-bottom:1px solid var(--line)}td.n{white-space:nowrap;font-variant-numeric:tabular-nums}
.s{color:#fff;border-radius:3px;padding:0 .4em;font-size:.85em}figure{display:inline-block;margin:.5em 1em .5em 0}
figcaption,.soft{color:var(--soft);font-size:.85em}img{max-width:100%;border-radius:4px;image-rendering:auto}
section.m{border-left:4px solid var(--line);padding-left:1em;margin:1.2em 0}
"""


@dataclass(frozen=True)
class Line:
    """One line of a plot: (s since the start, value) points; NaN interrupts it."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Event:
    """A row of the event table: s since the start, kind, and text."""

    at: float
    kind: str
    text: str


def report(trace: Trace, history: Sequence[Change]) -> str:
    """Return the HTML page.

    Raises:
        DataError: when the messages are of another version, or damaged.
    """
    with naming_other_version(trace):
        moments = [explain(trace, at, history) for at in _moments(trace, history)]
        parts = [
            _header(trace, history),
            "<h2>State of the safety layer</h2>",
            _band(trace, history),
            *_plots(trace),
            "<h2>What happened</h2>",
            _table(_events(trace, history)),
            "<h2>Why</h2>",
            *(_moment(moment) for moment in moments),
        ]
    title = escape(f"Trace of {trace.origin.get('robot', 'a robot')}, {trace.origin.get('started', '')}")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{title}</title><style>{STYLE}</style>'
    )
    body = "\n".join([f"<h1>{title}</h1>", *parts])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _header(trace: Trace, history: Sequence[Change]) -> str:
    moved = sum(
        (after - change.at) / NS
        for change, after in zip(history, [*(one.at for one in history[1:]), trace.end], strict=True)
        if change.state in ("RUN", "SLOW")
    )
    lines = [
        f"{trace.seconds:.1f} s, from {clock_time(trace.start)} to {clock_time(trace.end)}; driven for {moved:.1f} s; "
        f"{len(trace.records.get(CHUNK, []))} plans, {len(trace.records.get(OBSERVATION_TOPIC, []))} observations.",
    ]
    if trace.cut_short:
        lines.append(f"Cut short: {', '.join(trace.cut_short)} has no end, so what came last may be missing.")
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _moments(trace: Trace, history: Sequence[Change]) -> list[int]:
    """Return the instants to explain: shortly after each change, and the end."""
    late = round(AFTER_CHANGE * NS)
    nexts = [*(change.at for change in history[1:]), trace.end + 1]
    found = [min(change.at + late, after - 1) for change, after in zip(history, nexts, strict=True)]
    found = [max(at, trace.start) for at in found]
    if len(found) > MOST_MOMENTS:
        found = [*found[: MOST_MOMENTS // 2], *found[-MOST_MOMENTS // 2 :]]
    return [*found, trace.end]


def _band(trace: Trace, history: Sequence[Change]) -> str:
    span = max(trace.seconds, 1e-3)
    nexts = [*(change.at for change in history[1:]), trace.end]
    boxes = []
    for change, after in zip(history, nexts, strict=True):
        start, end = (change.at - trace.start) / NS, (after - trace.start) / NS
        x, width = _x(start, span), max(_x(end, span) - _x(start, span), 1.0)
        label = escape(f"{start:.2f} s {change.state}: {change.sentence}")
        fill = STATE_COLORS.get(change.state, "#666")
        box = f'<rect x="{x:.1f}" y="4" width="{width:.1f}" height="26" fill="{fill}"><title>{label}</title></rect>'
        boxes.append(box)
    legend = "".join(
        f'<text x="{LEFT + 90 * i + 16}" y="62">{name}</text>'
        f'<rect x="{LEFT + 90 * i}" y="53" width="11" height="11" fill="{color}"/>'
        for i, (name, color) in enumerate(STATE_COLORS.items())
    )
    return f'<svg viewBox="0 0 {WIDTH} 70" role="img">{"".join(boxes)}{_time_axis(span, 44)}{legend}</svg>'


def _plots(trace: Trace) -> list[str]:
    rows = [((at - trace.start) / NS, message) for at, message in trace.all(SAFETY)]
    rows = rows[:: max(1, math.ceil(len(rows) / MOST_POINTS))]
    span = max(trace.seconds, 1e-3)

    def of_status(value: Callable[[Any], float]) -> list[tuple[float, float]]:
        return [(at, value(message)) for at, message in rows]

    age = of_status(lambda m: m.observation_age if m.observation_age >= 0.0 else math.nan)
    confidence = [((at - trace.start) / NS, float(m.trust)) for at, m in trace.all(CHUNK)]
    parts = [
        _plot(
            "Speed scale and confidence",
            "0 to 1",
            span,
            [Line("speed scale", of_status(lambda m: float(m.speed_scale))), Line("confidence", confidence)],
        ),
        _plot("Age of the observation behind the command", "s", span, [Line("age", age)]),
        _plot("Measured speed of the fastest joint", "rad/s", span, [Line("speed", _speeds(trace))]),
    ]
    for axis in _axes(message for _, message in rows):
        parts.append(_plot(f"Proposed and commanded: {axis}", TOOL_UNITS.get(axis, "rad"), span, _pair(rows, axis)))
    return [part for part in parts if part]


def _speeds(trace: Trace) -> list[tuple[float, float]]:
    found = []
    for at, message in trace.all(OBSERVATION_TOPIC):
        speeds = [abs(float(v)) for v in message.joint_velocities]
        found.append(((at - trace.start) / NS, max(speeds, default=math.nan)))
    return found


def _axes(statuses: Iterable[Any]) -> list[str]:
    """Return the axes to plot: those modified most, in their own order."""
    most: dict[str, float] = {}
    for status in statuses:
        for axis, (proposed, executed) in differences(status).items():
            most[axis] = max(most.get(axis, 0.0), abs(proposed - executed))
    chosen = set(sorted(most, key=lambda axis: -most[axis])[:MOST_AXES])
    return [axis for axis in most if axis in chosen]


def _pair(rows: Sequence[tuple[float, Any]], axis: str) -> list[Line]:
    values = [(at, differences(message).get(axis, (math.nan, math.nan))) for at, message in rows]
    return [
        Line("proposed", [(at, pair[0]) for at, pair in values], dashed=True),
        Line("commanded", [(at, pair[1]) for at, pair in values]),
    ]


def _plot(title: str, unit: str, span: float, lines: Sequence[Line]) -> str:
    values = [value for line in lines for _, value in line.points if math.isfinite(value)]
    if not values:
        return ""
    low, high = min(values), max(values)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    y = _scale(low, high)
    drawn = [
        f'<path d="{_path(line.points, span, y)}" fill="none" stroke="{COLORS[index]}" stroke-width="1.4"'
        f"{' stroke-dasharray=' + chr(34) + '5 3' + chr(34) if line.dashed else ''}/>"
        for index, line in enumerate(lines)
    ]
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{_number(v, high - low)}</text>'
        for v in (low, (low + high) / 2, high)
    )
    legend = "".join(
        f'<text x="{WIDTH - 110 * (len(lines) - i)}" y="12" style="fill:{COLORS[i]}">'
        f"{'– –' if line.dashed else '—'} {escape(line.name)}</text>"
        for i, line in enumerate(lines)
    )
    head = f'<text x="{LEFT}" y="12">{escape(title)} ({escape(unit)})</text>'
    axis = _time_axis(span, HEIGHT - 8)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{grid}{"".join(drawn)}{head}{legend}{axis}</svg>'


def _scale(low: float, high: float) -> Callable[[float], float]:
    top, bottom = 24.0, HEIGHT - BOTTOM - 8.0
    return lambda value: bottom - (value - low) / (high - low) * (bottom - top)


def _number(value: float, span: float) -> str:
    """Format a value with enough digits to distinguish the axis marks."""
    digits = max(0, 2 - math.floor(math.log10(span)))
    return f"{value:.{digits}f}"


def _x(seconds: float, span: float) -> float:
    return LEFT + seconds / span * (WIDTH - LEFT - 8)


def _path(points: Sequence[tuple[float, float]], span: float, y: Callable[[float], float]) -> str:
    words, pen_down = [], False
    for at, value in points:
        if not math.isfinite(value):
            pen_down = False
            continue
        words.append(f"{'L' if pen_down else 'M'}{_x(at, span):.1f} {y(value):.1f}")
        pen_down = True
    return "".join(words)


def _time_axis(span: float, y: float) -> str:
    step = 10.0 ** math.floor(math.log10(span))
    step *= next(factor for factor in (0.1, 0.2, 0.5, 1.0, 2.0) if span / (step * factor) <= 10)
    marks = [index * step for index in range(int(span / step) + 1)]
    return "".join(f'<text x="{_x(at, span):.1f}" y="{y:.0f}" text-anchor="middle">{at:g} s</text>' for at in marks)


def _events(trace: Trace, history: Sequence[Change]) -> list[Event]:
    found = [Event((one.at - trace.start) / NS, one.state, f"{one.reason}: {one.sentence}") for one in history]
    found += _told(trace, TASK, "instruction", lambda m: f"number {m.sequence}: {m.text}")
    found += _told(trace, REJECTED, "refused", lambda m: m.data)
    found += _told(trace, ANSWERS, "answer", lambda m: "" if m.request_accepted else m.sentence)
    found += _told(trace, POLICY, "policy", lambda m: m.sentence)
    found += _told(trace, INCIDENT_TOPIC, "incident", lambda m: m.data)
    return sorted(found, key=lambda event: event.at)


def _told(trace: Trace, key: str, kind: str, text: Callable[[Any], Any]) -> list[Event]:
    """Return the texts of a topic as events, without consecutive repetitions."""
    found: list[Event] = []
    before = ""
    for at, message in trace.all(key):
        told = str(text(message))
        if told and told != before:
            found.append(Event((at - trace.start) / NS, kind, told))
        before = told or before
    return found


def _table(events: Sequence[Event]) -> str:
    rows = "".join(
        f'<tr><td class="n">{event.at:.2f} s</td><td>{_badge(event.kind)}</td><td>{escape(event.text)}</td></tr>'
        for event in events
    )
    return f"<table><tr><th>time</th><th></th><th></th></tr>{rows}</table>"


def _badge(kind: str) -> str:
    return f'<span class="s" style="background:{STATE_COLORS.get(kind, "#4a6fa5")}">{escape(kind)}</span>'


def _moment(moment: Moment) -> str:
    images = "".join(
        f'<figure><img alt="{escape(camera)}" src="data:image/jpeg;base64,{base64.b64encode(content).decode()}">'
        f"<figcaption>{escape(camera)}, {age:.2f} s earlier</figcaption></figure>"
        for camera, (age, content) in moment.images.items()
        if content.startswith(JPEG)
    )
    sentences = "".join(f"<div>{escape(sentence)}</div>" for sentence in moment.sentences)
    color = STATE_COLORS.get(moment.state, "var(--line)")
    head = (
        f'<b>{moment.seconds:.2f} s</b> <span class="soft">{escape(moment.clock)}</span> '
        f"{_badge(moment.state or 'silent')}"
    )
    return f'<section class="m" style="border-color:{color}">{head}{sentences}{images}</section>'
