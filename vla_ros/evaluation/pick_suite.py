"""Pick suite: one episode per seed with the scene's own instruction, and one for each other object on request."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.envs.tabletop.tasks import pick_instruction
from vla_ros.evaluation.statistics import wilson_interval
from vla_ros.evaluation.trials import Trial, TrialResult


def pick_trials(episodes: int, seed: int) -> list[Trial]:
    """Return one episode for each scene, with consecutive seeds from `seed`."""
    return [Trial(seed + number, "pick", "seen", "none", "", "") for number in range(episodes)]


def other_objects(trial: Trial, env: TabletopEnv) -> list[Trial]:
    """Return trials of the same scene that name each of its other objects."""
    others = [item.name for item in env.objects if item.name != env.target.name]
    return [replace(trial, sentence=pick_instruction(name), exchanged=True) for name in others]


def summarise_pick(trials: Sequence[TrialResult]) -> dict[str, Any]:
    """Return the metrics: success, objects picked, time to success, and success by color and by shape."""
    results = [one.result for one in trials]
    won = sum(r.success for r in results)
    picked = [r for r in results if r.picked]
    obeyed = sum(r.picked == r.target for r in picked)
    groups: dict[str, list[bool]] = defaultdict(list)
    for result in results:
        for word in result.target.split():
            groups[word].append(result.success)
    return {
        "episodes": len(results),
        "success_rate": won / len(results),
        "success_ci95": list(wilson_interval(won, len(results))),
        "picked_something": len(picked),
        "picked_the_named_one": obeyed,
        "obedience": obeyed / len(picked) if picked else None,
        "obedience_ci95": list(wilson_interval(obeyed, len(picked))) if picked else None,
        "seconds_to_success": sum(r.seconds for r in results if r.success) / max(won, 1),
        "by": {word: {"episodes": len(w), "success_rate": sum(w) / len(w)} for word, w in sorted(groups.items())},
    }


def describe_pick(figures: Mapping[str, Any]) -> list[str]:
    """Return the printed lines for the result of `summarise_pick`."""
    named, lifted = figures["picked_the_named_one"], figures["picked_something"]
    return [f"{named} of the {lifted} objects lifted were the named one"]
