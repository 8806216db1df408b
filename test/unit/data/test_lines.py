"""What differs is named line by line; what only one side says is no difference."""

from __future__ import annotations

from vla_ros.data.episodes.lines import setting_differences


def test_differences_are_named_with_their_place() -> None:
    then = {"data": {"steps": 40, "gone": 1}, "cameras": ("front", "wrist"), "start": None}
    now = {"data": {"steps": 60, "new": {"a": 1}}, "cameras": ["front", "wrist"], "start": {"path": "here"}}
    assert setting_differences(then, now) == ["data.steps: 40 then, 60 now"]
    assert setting_differences(then, then) == setting_differences({}, now) == []
    assert setting_differences({"start": None}, {"start": "here"}) == ["start: None then, 'here' now"]
