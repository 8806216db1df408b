"""Requests of pages: small JSON objects of known types. Anything else is refused with a reason.

hello     token, name      first message of every connection
take      release          take or give up command
instruct  text             a task or a stop phrase
hold      disarm           stops: allowed for every page
estop                      likewise
arm       reset: presses   only the page in command, as `instruct`
record    start; or end with success (true, false, null) and keep
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vla_ros.console.errors import RequestError

LARGEST_REQUEST = 8192
"""Maximum size of a message, bytes; a larger one closes the connection."""

LONGEST_INSTRUCTION = 2000
"""Maximum length of an instruction, characters. The instruction node's own limit is far lower and gives its own reason.
"""

LONGEST_NAME = 32

FIELDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "take": {},
    "release": {},
    "instruct": {"text": (str,)},
    "hold": {},
    "disarm": {},
    "estop": {},
    "arm": {},
    "reset": {"presses": (int,)},
    "start_recording": {},
    "end_recording": {"success": (bool, type(None)), "keep": (bool,)},
}
"""Maps each request type to its fields and their allowed value types."""

STOPS = frozenset({"estop", "hold", "disarm"})
"""Requests allowed for every page, because they only ever stop the arm."""

WITHOUT_COMMAND = STOPS | {"take", "release"}


def parse_object(text: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        RequestError: when the text is anything else.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"this is no JSON: {text[:60]!r}") from error
    if not isinstance(value, dict):
        raise RequestError(f"got a JSON {type(value).__name__}, expected an object with a type")
    return value


def parse_hello(text: str) -> tuple[object, str]:
    """Return the token and name from the first message.

    Raises:
        RequestError: when it is not a hello.
    """
    value = parse_object(text)
    if value.get("type") != "hello":
        raise RequestError("the first message must be a hello")
    name = value.get("name", "")
    name = "".join(letter for letter in name if letter.isprintable()) if isinstance(name, str) else ""
    return value.get("token", ""), " ".join(name.split())[:LONGEST_NAME]


def parse_request(text: str) -> tuple[str, dict[str, Any]]:
    """Return the type of a request and its validated fields.

    Raises:
        RequestError: when the type is unknown, or a field is missing, unexpected or of the wrong type.
    """
    value = parse_object(text)
    kind = value.pop("type", None)
    if not isinstance(kind, str) or kind not in FIELDS:
        raise RequestError(f"there is no request {str(kind)[:40]!r}; expected one of {', '.join(FIELDS)}")
    fields = FIELDS[kind]
    if set(value) != set(fields):
        raise RequestError(f"{kind}: got the fields {sorted(value)[:8]}, expected {sorted(fields)}")
    for name, types in fields.items():
        if type(value[name]) not in types:  # a bool does not count as an int here
            expected = " or ".join(one.__name__ for one in types)
            raise RequestError(f"{kind}: {name} is a {type(value[name]).__name__}, expected {expected}")
    if kind == "instruct" and not 0 < len(value["text"].strip()) <= LONGEST_INSTRUCTION:
        raise RequestError(
            f"the instruction has {len(value['text'].strip())} characters, expected 1 to {LONGEST_INSTRUCTION}"
        )
    return kind, value
