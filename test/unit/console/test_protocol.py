"""What pages may send."""

import asyncio
import json

import pytest

from vla_ros.console.connection import BURST, Pace
from vla_ros.console.errors import RequestError
from vla_ros.console.outbox import ANSWERS, Outbox
from vla_ros.console.protocol import FIELDS, STOPS, WITHOUT_COMMAND, parse_hello, parse_request


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stop",
        "[]",
        "3",
        "null",
        "{}",
        "[" * 4000,
        '{"type": 3}',
        '{"type": "drive"}',
        '{"type": "arm", "force": true}',
        '{"type": "instruct"}',
        '{"type": "instruct", "text": 3}',
        '{"type": "instruct", "text": ""}',
        '{"type": "instruct", "text": "   "}',
        json.dumps({"type": "instruct", "text": "x" * 3000}),
        '{"type": "reset", "presses": true}',
        '{"type": "reset", "presses": 1.0}',
        '{"type": "reset", "presses": "1"}',
        '{"type": "reset", "presses": NaN}',
        '{"type": "end_recording", "success": 1, "keep": true}',
        '{"type": "end_recording", "success": null}',
    ],
)
def test_bad_requests_are_refused_with_a_sentence(text):
    with pytest.raises(RequestError):
        parse_request(text)


def test_good_requests():
    assert parse_request('{"type": "arm"}') == ("arm", {})
    assert parse_request('{"type": "instruct", "text": "stop"}') == ("instruct", {"text": "stop"})
    assert parse_request('{"type": "reset", "presses": 0}') == ("reset", {"presses": 0})
    assert parse_request('{"type": "end_recording", "success": null, "keep": false}')[1]["success"] is None


def test_whatever_lets_the_arm_move_needs_the_command():
    assert {"instruct", "arm", "reset"} <= set(FIELDS) - WITHOUT_COMMAND
    assert {"estop", "hold", "disarm"} == STOPS <= WITHOUT_COMMAND


def test_names_are_short_and_printable():
    assert parse_hello(json.dumps({"type": "hello", "name": " Anna\n\x07 B.  " + "x" * 99}))[1] == "Anna B. " + "x" * 24
    assert parse_hello('{"type": "hello", "name": 3}') == ("", "")
    with pytest.raises(RequestError, match="hello"):
        parse_hello('{"type": "arm"}')


def test_of_each_topic_the_newest_waits():
    async def fill():
        outbox = Outbox()
        for number in range(1000):
            outbox.put("status", f"status {number}")
            outbox.put("events", f"events {number}")
            outbox.answer(f"answer {number}")
        count = len(outbox)
        return count, [await outbox.get() for _ in range(count)]

    count, found = asyncio.run(fill())
    assert count == ANSWERS + 2
    assert found[:ANSWERS] == [f"answer {number}" for number in range(1000 - ANSWERS, 1000)]
    assert found[ANSWERS:] == ["status 999", "events 999"]


def test_an_empty_outbox_waits():
    async def wait():
        outbox = Outbox()
        getting = asyncio.create_task(outbox.get())
        await asyncio.sleep(0)
        assert not getting.done()
        outbox.put("status", "one")
        return await asyncio.wait_for(getting, 10.0)

    assert asyncio.run(wait()) == "one"


def test_a_page_may_hurry_but_not_flood():
    now = [0.0]
    pace = Pace(10.0, lambda: now[0])
    assert all(pace.admits() for _ in range(BURST))
    assert not pace.admits()
    now[0] += 1000.0
    assert all(pace.admits() for _ in range(BURST))
    for _ in range(100):
        now[0] += 0.11
        assert pace.admits()
