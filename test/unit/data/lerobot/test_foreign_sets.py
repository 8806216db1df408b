"""Sets of other writers that lerobot's own package reads: each is read rightly, or refused by name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from vla_ros.data.catalogue import open_dataset, table_lines
from vla_ros.data.errors import (
    ConventionError,
    DamagedDataError,
    DataError,
    HostileDataError,
    MissingColumnError,
    UnusableEpisodeError,
)
from vla_ros.data.lerobot import layout_2
from vla_ros.data.lerobot.advice import joint_groups
from vla_ros.data.lerobot.writer import LeRobotWriter

RED, LEFT = "pick up the red cube", "push it left"
JOINTS = ["shoulder_pan.pos", "shoulder_lift.pos", "elbow_flex.pos", "wrist_flex.pos", "wrist_roll.pos", "gripper.pos"]


@pytest.fixture
def opened(foreign, tmp_path):
    """opened(...): a set with the oddities of `write_set`, opened; options of the reader in `reader`."""

    def make(reader=None, **oddities):
        return open_dataset("lerobot", foreign.write(tmp_path / "set", **oddities), **(reader or {}))

    return make


def read(foreign, reader):
    """Return episode to (steps, instructions)."""
    return {name: (len(steps), {s.instruction for s in steps}) for name, steps in foreign.read(reader).items()}


def test_reader_takes_sentences_by_task_index_without_a_tasks_column(opened, foreign):
    reader = opened(tasks=(RED, LEFT), task_of=[1, 0], tasks_column=False)
    assert read(foreign, reader) == {"000000": (4, {LEFT}), "000001": (3, {RED})}
    assert next(reader.read("000000")).task == LEFT


@pytest.mark.parametrize("index", ["task", "__index_level_0__", "sentence", None])
def test_reader_takes_no_other_text_for_the_instruction(index, opened, foreign):
    column = index or "task"
    table = pa.table({"robot": ["panda", "panda"], column: [RED, LEFT], "note": ["", ""], "task_index": [7, 3]})
    if index is not None:
        table = table.replace_schema_metadata({"pandas": json.dumps({"index_columns": [index]})})
    reader = opened(task_table=table, task_of=[3, 7], tasks=[None] * 8)
    assert read(foreign, reader) == {"000000": (4, {LEFT}), "000001": (3, {RED})}


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_reader_takes_every_kind_of_text(kind, opened, foreign):
    texts = pa.array([LEFT, RED])
    texts = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
    reader = opened(task_table=pa.table({"task_index": [0, 1], "task": texts}), tasks=[RED] * 2, task_of=[1, 0])
    assert read(foreign, reader) == {"000000": (4, {RED}), "000001": (3, {LEFT})}


def test_reader_asks_which_text_is_the_instruction(foreign, tmp_path):
    one = foreign.write(tmp_path / "a", task_table=pa.table({"a": [RED], "b": [LEFT], "task_index": [0]}))
    with pytest.raises(MissingColumnError, match=r"tasks\.parquet has the columns .*expected task_index and"):
        open_dataset("lerobot", one)
    two = foreign.write(tmp_path / "b", task_table=pa.table({"task": [RED, LEFT], "task_index": [0, 0]}))
    with pytest.raises(DamagedDataError, match="gives one number to two instructions"):
        open_dataset("lerobot", two)


def test_merged_sets_lose_no_episode(opened, foreign):
    reader = opened(lengths=(4, 3, 2), names=["a", "b", "a"])
    assert {name: count for name, (count, _) in read(foreign, reader).items()} == {"a#0": 4, "b": 3, "a#2": 2}


def test_reader_bears_gaps_in_episode_numbers(opened, foreign):
    assert list(read(foreign, opened(numbers=[2, 5]))) == ["000002", "000005"]


def test_reader_bears_indices_that_begin_later(opened, foreign):
    assert read(foreign, opened(first=40))["000001"][0] == 3


def test_reader_takes_scalars_as_lists_of_one(opened, foreign):
    assert read(foreign, opened(lists=True)) == {"000000": (4, {RED}), "000001": (3, {RED})}


@pytest.mark.parametrize("line", ["total_frames", "total_episodes", "video_path", "data_path", "chunks_size"])
def test_reader_needs_only_rate_and_columns(line, opened, foreign):
    assert len(read(foreign, opened(info={line: None}))) == 2


def test_reader_follows_patterns_of_layout_2(foreign, tmp_path):
    root = foreign.write(
        tmp_path / "set",
        lengths=(4,),
        info={
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        },
    )
    with pytest.raises(DamagedDataError, match=r"is not there, where data_path \('data/chunk-\{episode_chunk:03d\}"):
        list(open_dataset("lerobot", root).read("000000"))
    (root / "data/chunk-000/file-000.parquet").rename(root / "data/chunk-000/episode_000000.parquet")
    (root / "videos/chunk-000/observation.images.front").mkdir(parents=True)
    (root / "videos/observation.images.front/chunk-000/file-000.mp4").rename(
        root / "videos/chunk-000/observation.images.front/episode_000000.mp4"
    )
    assert read(foreign, open_dataset("lerobot", root)) == {"000000": (4, {RED})}


@pytest.mark.parametrize(
    ("pattern", "error", "says"),
    [
        ("../../secret-{chunk_index:03d}.parquet", HostileDataError, "leaves the data set"),
        ("data/../../{file_index}.parquet", HostileDataError, "leaves the data set"),
        ("/etc/passwd", HostileDataError, "leaves the data set"),
        ("data/{chunk_index.__class__}.parquet", DataError, "data_path is .*expected a path"),
        ("data/{chunk_index:999999999d}.parquet", DataError, "data_path is .*expected a path"),
        ("data/{nobody}.parquet", DataError, "data_path is .*expected a path"),
        ("data/{chunk_index", DataError, "data_path is"),
        (7, DamagedDataError, r"data_path \(7"),
    ],
)
def test_paths_stay_inside_the_set(pattern, error, says, opened):
    with pytest.raises(error, match=says):
        list(opened(info={"data_path": pattern}).read("000000"))


def test_videos_stay_inside_the_set(opened):
    with pytest.raises(HostileDataError, match=r"video_path is .*leaves the data set"):
        list(opened(info={"video_path": "../{video_key}.mp4"}).read("000000"))


def test_reader_takes_the_names_of_openpi(opened, foreign):
    reader = opened(columns=("actions", "state"), image_key="{}", cameras=("image", "wrist_image"), image_format="png")
    assert reader.description.cameras == ("image", "wrist_image")
    steps = foreign.read(reader)["000000"]
    assert steps[2].action.tolist() == pytest.approx([0.002, 0.0, 0.01, 0.0, 0.0, 0.0, 1.0])
    assert steps[2].end_effector.position.tolist() == pytest.approx([0.5, 0.0, 0.32])


def test_error_says_how_a_table_names_columns(opened):
    with pytest.raises(MissingColumnError, match=r"names no column 'action'; it has .*columns: \{action: \.\.\."):
        opened(columns=("command", "measured"))


def test_table_names_the_columns_that_are_meant(opened, foreign):
    reader = opened({"columns": {"action": "command", "state": "measured"}}, columns=("command", "measured"))
    assert len(foreign.read(reader)["000000"]) == 4


@pytest.mark.parametrize(
    "feature",
    [
        {"dtype": "video", "shape": [48, 64, 3], "info": {"video.is_depth_map": True}},
        {"dtype": "video", "shape": [48, 64, 3], "info": {"is_depth_map": True}},
        {"dtype": "video", "shape": [48, 64, 3], "info": {"video.pix_fmt": "gray12le"}},
        {"dtype": "video", "shape": [48, 64, 1], "names": ["height", "width", "channels"]},
        {"dtype": "image", "shape": [1, 48, 64], "names": ["channels", "height", "width"]},
    ],
)
def test_depth_is_no_camera(feature, opened, foreign):
    reader = opened(features={"observation.images.front_depth": feature})
    assert reader.description.cameras == ("front",)
    assert reader.description.depth_cameras == ("front_depth",)
    assert len(read(foreign, reader)) == 2


def test_depth_video_that_is_not_marked_is_refused(foreign, tmp_path):
    reader = open_dataset("lerobot", foreign.write(tmp_path / "set", pixel_format="gray12le"))
    with pytest.raises(DataError, match=r"holds depth \(gray12le\), expected color"):
        list(reader.read("000000"))


def test_pictures_of_16_bits_are_refused(opened):
    with pytest.raises(DataError, match="an image of uint16, expected 8 bits a channel"):
        list(opened(image_format="png16").read("000000"))


@pytest.mark.parametrize("times", [lambda i: 1.7e9 + i / 10, lambda i: 0.0, lambda i: 100.0 * i, lambda i: 5 - i / 10])
def test_times_are_not_believed(times, foreign, tmp_path):
    root = foreign.write(tmp_path / "set", lengths=(8,), times=lambda i: float(np.float32(times(i))))
    with pytest.raises(UnusableEpisodeError, match=r"by column 'timestamp' \('trust_timestamps: false' in a table"):
        list(open_dataset("lerobot", root).read("000000"))
    steps = list(open_dataset("lerobot", root, trust_timestamps=False).read("000000"))
    assert [step.timestamp for step in steps] == pytest.approx([0.1 * i for i in range(8)])


def test_times_may_begin_anywhere(opened):
    steps = list(opened(times=lambda i: 30.0 + i / 10.0).read("000000"))
    assert [step.timestamp for step in steps] == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("times", [[(0.0, 0.4), (0.4, 0.7)], [(0.0, 0.42), (0.4, None)]])
def test_video_times_that_agree_with_the_steps_are_taken(times, opened, foreign):
    assert read(foreign, opened(video_times=times)) == {"000000": (4, {RED}), "000001": (3, {RED})}


@pytest.mark.parametrize("second", [(0.5, 0.7), (0.3, 0.7), (0.4, 0.3), (0.4, float("nan")), (0.4, float("inf"))])
def test_video_that_lasts_otherwise_than_its_steps_makes_an_odd_episode(second, opened):
    """With `from_timestamp` a frame late every step would show what was seen a step later."""
    reader = opened(lengths=(4, 3, 3), video_times=[(0.0, 0.4), second, (0.7, 1.0)])
    assert [len(list(reader.read(name))) for name in ("000000", "000002")] == [4, 3]
    for images in (True, False):
        with pytest.raises(
            UnusableEpisodeError, match=r"'observation\.images\.front' lasts .* expected 0\.3 s for 3 steps"
        ):
            list(reader.read("000001", images=images))


def test_advice_is_a_table_that_can_be_completed(foreign, tmp_path):
    root = foreign.write(tmp_path / "set", convention=None)
    with pytest.raises(ConventionError, match="give a convention") as error:
        open_dataset("lerobot", root)
    text = str(error.value)[str(error.value).index("\n- format") :]
    for blank, word in (
        ("<base_frame of the robot>", "base"),
        ("<absolute | relative | delta>", "relative"),
        ("<open_is_one | closed_is_one | opening>", "open_is_one"),
        ("<camera of the robot>", "top"),
        ("<m between the fingers when open, or leave this line out>", "0.08"),
    ):
        assert blank in text
        text = text.replace(blank, word)
    (line,) = table_lines(yaml.safe_load(text), "advice")
    reader = open_dataset(line.format, line.path, **line.options)
    assert reader.description.convention == foreign.convention and reader.description.cameras == ("top",)
    assert len(list(reader.read("000001"))) == 3


def test_joint_set_is_answered_with_its_groups(foreign, tmp_path):
    action = {"action": {"dtype": "float32", "shape": [6], "names": JOINTS}}
    with pytest.raises(ConventionError, match="does not say what the columns") as error:
        open_dataset("lerobot", foreign.write(tmp_path / "set", convention=None, features=action))
    assert "- {group: arm/joint_position, joints: 5, unit: <" in str(error.value)
    assert "- {group: arm/gripper, gripper: <" in str(error.value)


def test_joint_groups_tell_two_arms_apart():
    names = [f"{side}_{part}" for side in ("left", "right") for part in ("waist", "elbow", "gripper")]
    lines = joint_groups(names)
    assert [line.split("{group: ")[1].split(",")[0] for line in lines] == [
        "left/joint_position",
        "left/gripper",
        "right/joint_position",
        "right/gripper",
    ]
    assert all("joints: 2," in line for line in lines[::2])


def test_quaternion_that_begins_with_w_is_named_so(foreign, tmp_path):
    own = ["x", "y", "z", "qw", "qx", "qy", "qz", "gripper"]
    state = {"observation.state": {"dtype": "float32", "shape": [8], "names": own}}
    root = foreign.write(tmp_path / "set", features=state)
    given = [f"tool_{name}" for name in ("x", "y", "z", "qx", "qy", "qz", "qw")] + ["gripper_opening"]
    with pytest.raises(ConventionError, match="the quaternion in another order"):
        open_dataset("lerobot", root, proprioception_names=given)


def as_layout_2(foreign, root, *, patterns=True, restart=False):
    """Return a set of two episodes as layout v2.1 has it: a file an episode, lists as JSON lines."""
    videos = (5, 3)
    parts = [foreign.write(root.parent / f"part_{number}", lengths=(count,)) for number, count in enumerate(videos)]
    shutil.copytree(parts[0] / "meta", root / "meta")
    (root / "data/chunk-000").mkdir(parents=True)
    (root / "videos/chunk-000/observation.images.front").mkdir(parents=True)
    for number, part in enumerate(parts):
        table = pq.read_table(part / "data/chunk-000/file-000.parquet")
        count = table.num_rows
        begin = 0 if restart else sum(videos[:number])
        for name, values in (
            ("episode_index", [number] * count),
            ("index", range(begin, begin + count)),
            ("task_index", [1 - number] * count),
        ):
            table = table.set_column(table.column_names.index(name), name, pa.array(list(values), pa.int64()))
        pq.write_table(table, root / f"data/chunk-000/episode_{number:06d}.parquet")
        shutil.copy(
            part / "videos/observation.images.front/chunk-000/file-000.mp4",
            root / f"videos/chunk-000/observation.images.front/episode_{number:06d}.mp4",
        )
    info = json.loads((root / "meta/info.json").read_text()) | {"codebase_version": "v2.1"}
    for line in ("data_path", "video_path"):
        info.pop(line)
    if patterns:
        info |= {"data_path": layout_2.DATA_PATTERN, "video_path": layout_2.VIDEO_PATTERN}
    (root / "meta/info.json").write_text(json.dumps(info))
    shutil.rmtree(root / "meta/episodes")
    (root / "meta/tasks.parquet").unlink()
    episodes = [{"episode_index": n, "tasks": [[LEFT, RED][n]], "length": videos[n]} for n in (1, 0)]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, episodes)) + "\n")
    tasks = [{"task_index": 0, "task": RED}, {"task_index": 1, "task": LEFT}]
    (root / "meta/tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
    return root


@pytest.mark.parametrize("oddity", [{}, {"patterns": False}, {"restart": True}])
def test_layout_2_is_read(oddity, foreign, tmp_path):
    reader = open_dataset("lerobot", as_layout_2(foreign, tmp_path / "set", **oddity))
    assert reader.episodes == ["000000", "000001"]
    for episode, (count, words) in {"000000": (5, LEFT), "000001": (3, RED)}.items():
        steps = list(reader.read(episode))
        assert len(steps) == count and {step.instruction for step in steps} == {words}
        assert [step.timestamp for step in steps] == pytest.approx([0.1 * i for i in range(count)])
        assert [int(step.images["front"][24, 32].mean()) for step in steps] == pytest.approx(
            [40 + 13 * i for i in range(count)], abs=6
        )


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("episodes.jsonl", "{", "line 1 cannot be read"),
        ("episodes.jsonl", '{"length": 3}', "line 1 is .*expected .'episode_index', 'length'"),
        ("episodes.jsonl", '{"episode_index": 0, "length": 0}', "expected at least 1"),
        ("episodes.jsonl", '{"episode_index": 0, "length": 5}\n{"episode_index": 0, "length": 5}', "an episode twice"),
        ("episodes.jsonl", '{"episode_index": 0, "length": 4}', "step 4 of an episode of 4"),
        ("episodes.jsonl", '{"episode_index": 7, "length": 4}', r"episode_000007\.parquet is not there"),
        ("tasks.jsonl", '{"task_index": 0, "task": "a"}\n{"task_index": 0, "task": "b"}', "one number to two"),
        ("tasks.jsonl", "[]", "line 1 is"),
    ],
)
def test_damaged_lists_of_layout_2_are_named(file, content, says, foreign, tmp_path):
    root = as_layout_2(foreign, tmp_path / "set")
    (root / "meta" / file).write_text(content)
    with pytest.raises(DataError, match=says):
        list(open_dataset("lerobot", root).read("000007" if "7" in content else "000000"))


def test_older_layouts_are_refused(foreign, tmp_path):
    root = foreign.write(tmp_path / "set", info={"codebase_version": "v1.6"})
    with pytest.raises(DataError, match=r"is of layout v1\.6, expected v2 or v3"):
        open_dataset("lerobot", root)


def test_writer_does_not_go_on_with_layout_2(foreign, tmp_path, demonstrations):
    root = as_layout_2(foreign, tmp_path / "set")
    with pytest.raises(DataError, match="which is read and not written"):
        LeRobotWriter(root, demonstrations.description, demonstrations.sizes)


@pytest.mark.parametrize(
    "info",
    [
        {"fps": "ten"},
        {"fps": 0},
        {"fps": None},
        {"features": []},
        {"features": {"action": 1}},
        {"features": {"action": {}}},
    ],
)
def test_damaged_lines_are_data_errors(info, opened):
    with pytest.raises(DataError, match=r"info\.json"):
        opened(info=info)


def test_convention_outlives_a_rewrite_by_lerobot(tmp_path, demonstrations, same_steps):
    """lerobot's delete and merge write info.json anew from its columns, and keep no file or column they do not know."""
    root = tmp_path / "set"
    with LeRobotWriter(root, demonstrations.description, demonstrations.sizes) as writer:
        for number in range(2):
            writer.write(demonstrations.episode(number))
    before = open_dataset("lerobot", root).description
    (root / "meta/vla_ros.json").unlink()
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.select([name for name in table.column_names if not name.startswith("vla_ros.")]), path)
    after = open_dataset("lerobot", root)
    assert after.description == before
    expected = [replace(step, task=step.instruction) for step in demonstrations.episode(0)]
    same_steps(after.read("000000"), expected)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["action"]["vla_ros"] = {"action": {"frame": 1}, "max_opening": "x"}
    (root / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DamagedDataError, match=r"info\.json cannot be read"):
        open_dataset("lerobot", root)


def test_writer_does_not_go_on_behind_gaps(tmp_path, demonstrations):
    with LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes) as writer:
        for number in range(3):
            writer.write(demonstrations.episode(number))
    path = tmp_path / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table.slice(0, 1), table.slice(2, 1)]), path)
    assert open_dataset("lerobot", tmp_path).episodes == ["000000", "000002"]
    with pytest.raises(DamagedDataError, match="write to another folder"):
        LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes)
