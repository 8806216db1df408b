"""Many rollouts, in several processes, and the figures that sum them up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from typing import Any

from vla_ros.envs.processes import work_in_processes
from vla_ros.envs.tabletop.tasks import pick_instruction
from vla_ros.evaluation.player import Player, SuiteOptions, make_player
from vla_ros.evaluation.rollout import RolloutResult, rollout
from vla_ros.evaluation.statistics import wilson_interval


def _make_player(options: SuiteOptions) -> Player:
    return make_player(options, "pick")


def _play(player: Player, seed: int) -> list[RolloutResult]:
    cell, policy, carrier = player.cell, player.policy, player.carrier
    results = [rollout(cell, policy, carrier, seed)]
    if player.options.exchange:
        others = [item.name for item in cell.objects if item.name != results[0].target]
        results += [rollout(cell, policy, carrier, seed, pick_instruction(name)) for name in others]
    return results


def play_suite(
    options: SuiteOptions, seeds: Sequence[int], processes: int
) -> Generator[list[RolloutResult], None, None]:
    """Yield the results of each seed as they come, in the order of the seeds.

    Raises:
        CheckpointError: when the policy cannot be loaded.
        VlaError: when the robot is unknown, its cell cannot be built, or a process was killed.
    """
    yield from work_in_processes(_make_player, options, _play, seeds, processes)


def summarise(results: Sequence[RolloutResult]) -> dict[str, Any]:
    """Return the figures: success, what was picked, how long it took, and success by colour and by shape."""
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
