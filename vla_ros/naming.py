"""Messages for unknown names: the closest match, and all valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def expected_names(name: str, names: Iterable[str]) -> str:
    """Return "did you mean 'x'? Expected one of: ..." for an unknown `name`."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(known) or "none, there are none here"
    return f"did you mean '{near[0]}'? Expected one of: {listed}" if near else f"expected one of: {listed}"
