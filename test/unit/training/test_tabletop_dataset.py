"""Batches of the tabletop tasks: several commands a picture, in taught words, never one that is held out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_ros.data.episodes.demonstrations import DemonstrationWriter, read_episodes
from vla_ros.envs.tabletop.scene import HELD_OUT_PAIRS
from vla_ros.errors import VlaError
from vla_ros.language.commands import Command
from vla_ros.language.phrasing import held_out_words, taught_words
from vla_ros.robot.contract import load_contract
from vla_ros.training.datasets.concepts import COLOUR_NAMES, KIND_NAMES
from vla_ros.training.datasets.source import SeededBatches
from vla_ros.training.datasets.tabletop import TabletopDataset, Wordiness, trainable_pairs

WORDS = sorted({*taught_words(), *held_out_words(), "walrus", "hurry", "seven"})
PAIRS = trainable_pairs(HELD_OUT_PAIRS)


def _dataset(tabletop_recorded: Path, cache: Path, **options: object) -> TabletopDataset:
    return TabletopDataset(
        [tabletop_recorded], ["front", "wrist"], WORDS, trainable_pairs(HELD_OUT_PAIRS), cache, **options
    )


@pytest.fixture(scope="module")
def dataset(tabletop_recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> TabletopDataset:
    return _dataset(tabletop_recorded, tmp_path_factory.mktemp("cache"))


def test_a_batch_has_its_shapes_and_its_absent_command(dataset: TabletopDataset) -> None:
    inputs, target = SeededBatches(dataset, 4, 0).batch(0, 0, 1)
    assert inputs.images["front"].shape == (4, 3, 96, 128) and inputs.tokens.shape == (4, 6, 16)
    assert target.target_visible.tolist() == [[1, 1, 1, 1, 1, 0]] * 4
    assert target.continuous.shape == (4, 6, 12, 6) and target.goal is not None and target.goal.shape == (4, 6, 3)
    for tensor in (target.continuous, target.target, target.goal, inputs.state):
        assert bool(torch.isfinite(tensor).all())
    has_goal = target.concepts["goal_kind"] < len(KIND_NAMES)
    seen = torch.isfinite(target.goal_pixels["front"]).all(dim=-1)
    assert not bool((seen & ~has_goal)[:, :-1].any()) and bool((seen & has_goal).any())


def test_shares_make_the_whole_and_pictures_come_from_their_step(dataset: TabletopDataset) -> None:
    source = SeededBatches(dataset, 4, 0)
    inputs, target = source.batch(3, 0, 1)
    parts = [source.batch(3, part, 2) for part in range(2)]
    assert torch.equal(inputs.tokens, torch.cat([g.tokens for g, _ in parts]))
    assert torch.equal(inputs.images["wrist"], torch.cat([g.images["wrist"] for g, _ in parts]))
    assert torch.equal(target.continuous, torch.cat([w.continuous for _, w in parts]))
    rng = np.random.default_rng([0, 3, 0])
    picture = dataset.image_stores["front"][np.array([rng.integers(dataset.count)])][0].astype(np.float32) / 255.0
    seen = inputs.images["front"][0].permute(1, 2, 0).numpy()
    assert np.corrcoef(picture.ravel(), seen.ravel())[0, 1] > 0.97


def test_no_sentence_names_what_is_held_out(dataset: TabletopDataset) -> None:
    kept_back = {WORDS.index(word) + 2 for word in held_out_words()}
    names = {(COLOUR_NAMES.index(c), KIND_NAMES.index(k)) for c, k in HELD_OUT_PAIRS}
    for update in range(20):
        inputs, target = SeededBatches(dataset, 8, 1).batch(update, 0, 1)
        assert not kept_back & set(inputs.tokens.flatten().tolist())
        for colour, kind in (("colour", "kind"), ("goal_colour", "goal_kind")):
            pairs = zip(
                target.concepts[colour].flatten().tolist(), target.concepts[kind].flatten().tolist(), strict=True
            )
            assert not names & set(pairs)


def test_what_is_asked_for_in_vain_is_not_there(dataset: TabletopDataset) -> None:
    rng = np.random.default_rng(0)
    for step in np.repeat(np.arange(0, dataset.count, 6), 50):  # many draws: most pairs lie on no table
        things = dataset._tables[dataset.episode_of[step]][1]
        command = dataset.absent(step, rng)
        named = {name for name in (command.name, command.goal_name) if name}
        assert not named <= set(things)


def test_labels_belong_to_their_command(dataset: TabletopDataset, tabletop_recorded: Path) -> None:
    """The normalized chunk of the pursued command, brought back, is the one that was recorded."""
    inputs, target = SeededBatches(dataset, 6, 2).batch(0, 0, 1)
    for row in range(6):
        step = int(np.random.default_rng([2, 0, row]).integers(dataset.count))
        asked = int(dataset._rows["asked"][step])
        chunk = dataset.processor.statistics.action.columns(slice(0, 3)).unnormalize(
            target.continuous[row, 0, :, :3].numpy()
        )
        np.testing.assert_allclose(chunk, dataset._rows["actions"][step, asked, :, :3], atol=1e-5)
        command = dataset._tables[dataset.episode_of[step]][0][asked]
        assert target.concepts["colour"][row, 0] == COLOUR_NAMES.index(command.thing[0])
    assert bool((inputs.tokens[:, 0] != 0).any())


def test_sentences_are_roughened_only_by_words_that_say_nothing(tabletop_recorded: Path, tmp_path: Path) -> None:
    rough = _dataset(tabletop_recorded, tmp_path, wordiness=Wordiness(other_verb=1.0, filler=1.0))
    plain = _dataset(tabletop_recorded, tmp_path, wordiness=Wordiness(other_verb=0.0, filler=0.0))
    command = Command.from_key("pick|blue cube||")
    rng = np.random.default_rng(0)
    fillers = {"walrus", "hurry", "seven"}
    for _ in range(20):
        assert fillers & set(rough._sentence(command, rng).split())
        assert not fillers & set(plain._sentence(command, rng).split())


def test_pictures_are_kept_once_and_again_when_the_data_grows(tabletop_recorded: Path, tmp_path: Path) -> None:
    first = _dataset(tabletop_recorded, tmp_path)
    (place,) = tmp_path.iterdir()
    stamp = (place / "front.rgb").stat().st_mtime_ns
    again = _dataset(tabletop_recorded, tmp_path)
    assert (place / "front.rgb").stat().st_mtime_ns == stamp
    every = np.arange(first.count)
    np.testing.assert_array_equal(first.image_stores["wrist"][every], again.image_stores["wrist"][every])
    (place / "front.rgb").write_bytes(b"short")
    with pytest.raises(VlaError, match="5 bytes"):
        _dataset(tabletop_recorded, tmp_path)


@pytest.mark.parametrize("note", ['{"front": [96', "[]", '{"front": 3}'])
def test_pictures_are_written_again_where_the_note_about_them_is_damaged(
    tabletop_recorded: Path, tmp_path: Path, note: str
) -> None:
    first = _dataset(tabletop_recorded, tmp_path)
    (place,) = tmp_path.iterdir()
    (place / "complete.json").write_text(note)
    again = _dataset(tabletop_recorded, tmp_path)
    every = np.arange(first.count)
    np.testing.assert_array_equal(first.image_stores["wrist"][every], again.image_stores["wrist"][every])


def test_pictures_of_an_earlier_state_of_a_folder_are_removed(
    tabletop_recorded: Path, tabletop_later: Path, tmp_path: Path
) -> None:
    growing, cache = tmp_path / "growing", tmp_path / "cache"
    shutil.copytree(tabletop_recorded, growing)
    _dataset(growing, cache)
    other = _dataset(tabletop_recorded, cache)
    (unknown := cache / "0123456789abcdef").mkdir()  # of a version that did not write down whose pictures these are
    for episode in read_episodes(tabletop_later):
        DemonstrationWriter(growing, load_contract("panda").action, {}).write(episode)
    grown = _dataset(growing, cache)
    assert {*cache.iterdir()} == {*other.places, *grown.places, unknown} and grown.count > other.count


def test_a_second_folder_leaves_the_pictures_of_the_first_alone(
    tabletop_recorded: Path, tabletop_later: Path, dataset: TabletopDataset, tmp_path: Path
) -> None:
    _dataset(tabletop_recorded, tmp_path)
    (place,) = tmp_path.iterdir()
    stamp = (place / "front.rgb").stat().st_mtime_ns
    both = TabletopDataset(
        [tabletop_recorded, tabletop_later], ["front", "wrist"], WORDS, trainable_pairs(HELD_OUT_PAIRS), tmp_path
    )
    assert (place / "front.rgb").stat().st_mtime_ns == stamp and len(list(tmp_path.iterdir())) == 2
    assert both.counts == [dataset.count, both.count - dataset.count]
    last = np.array([both.count - 1, 0])  # of the second folder, and of the first
    alone = _dataset(tabletop_later, tmp_path).image_stores["front"][np.array([both.counts[1] - 1])]
    np.testing.assert_array_equal(both.image_stores["front"][last][:1], alone)
    np.testing.assert_array_equal(both.image_stores["front"][last][1:], dataset.image_stores["front"][last[1:]])


def test_missing_words_and_empty_folders_are_named(tabletop_recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(VlaError, match=r"lacks the taught words \['a', 'and'"):
        TabletopDataset([tabletop_recorded], ["front"], ["cube"], [], tmp_path)
    DemonstrationWriter(tmp_path / "empty", load_contract("panda").action, {})
    with pytest.raises(VlaError, match="no episodes"):
        _dataset(tmp_path / "empty", tmp_path / "cache")
