"""A killed writer, a full disk, damaged files: each is named, and no finished episode is lost."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vla_ros.data.errors import (
    ConventionError,
    DamagedDataError,
    DataError,
    DiskFullError,
    MissingColumnError,
    NotFiniteError,
    TruncatedVideoError,
)
from vla_ros.data.lerobot.reader import LeRobotReader
from vla_ros.data.lerobot.video import VideoEncoder, concatenate, count_frames, read_frames
from vla_ros.data.lerobot.writer import LeRobotWriter

PROCESS = Path(__file__).resolve().parent / "writing_process.py"
TABLE, VIDEO = "data/chunk-000/file-000.parquet", "videos/observation.images.front/chunk-000/file-000.mp4"


def start(*words):
    return subprocess.Popen([sys.executable, str(PROCESS), *map(str, words)], stdout=subprocess.PIPE, text=True)


def check_whole(folder, at_least, demonstrations, same_steps):
    """Every episode there is whole, and those that were reported finished are there. Return how many there are."""
    if not (folder / "meta/info.json").exists():
        assert at_least == 0
        return 0
    reader = LeRobotReader(folder)
    assert len(reader.episodes) >= at_least
    for number, name in enumerate(reader.episodes):
        same_steps(reader.read(name), demonstrations.episode(number, 5 + number % 3))
    return len(reader.episodes)


def write_two(folder, demonstrations, **options):
    with LeRobotWriter(folder, demonstrations.description, demonstrations.sizes, **options) as writer:
        for number in range(2):
            writer.write(demonstrations.episode(number, 5 + number))
    return folder


def test_a_killed_writer_loses_no_finished_episode(tmp_path, demonstrations, same_steps):
    finished = 0
    for kill in range(4):
        process = start(tmp_path, "forever")
        for line in process.stdout:
            finished = int(line) + 1
            if finished % 5 == kill + 1:  # in the middle of whatever comes after this line
                break
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        process.stdout.close()
        assert process.returncode == -signal.SIGKILL
        finished = check_whole(tmp_path, finished, demonstrations, same_steps)
    assert finished >= 4


@pytest.mark.parametrize("moment", [2, 5, 6, *range(8, 16)])
def test_a_kill_between_any_two_files_leaves_whole_episodes(tmp_path, demonstrations, same_steps, moment):
    """Two files are named when a data set begins, seven with every episode: all moments of the second are tried."""
    process = start(tmp_path, "break-at", moment)
    lines = process.communicate(timeout=60)[0].split()
    assert process.returncode == -signal.SIGKILL
    there = check_whole(tmp_path, len(lines), demonstrations, same_steps)
    with LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes) as writer:
        writer.write(demonstrations.episode(there, 5 + there % 3))
    assert check_whole(tmp_path, there + 1, demonstrations, same_steps) == there + 1
    info = json.loads((tmp_path / "meta/info.json").read_text())
    rows = sum(pq.read_metadata(path).num_rows for path in (tmp_path / "data").rglob("*.parquet"))
    assert (info["total_episodes"], info["total_frames"]) == (there + 1, rows)
    assert not (tmp_path / ".drafts").exists() or not list((tmp_path / ".drafts").iterdir())


@pytest.mark.parametrize("largest", [80_000, 100_000, 120_000])
def test_a_file_that_cannot_grow_is_a_full_disk(tmp_path, demonstrations, same_steps, largest):
    process = start(tmp_path, "largest", largest)
    *finished, verdict = process.communicate(timeout=120)[0].splitlines()
    assert process.returncode == 3, verdict
    assert "does not fit" in verdict and "untouched" in verdict
    assert check_whole(tmp_path, len(finished), demonstrations, same_steps) == len(finished) >= 1


@pytest.fixture
def small_disk():
    """A file system of 512 KiB."""
    folder = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        folder.rmdir()
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    # Lazily: a process that another test has forked meanwhile may still hold a file of it.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def test_a_full_disk_is_named_and_the_finished_episodes_stay(small_disk, demonstrations, same_steps):
    folder = small_disk / "data"
    with LeRobotWriter(folder, demonstrations.description, demonstrations.sizes) as writer:

        def fill():
            for number in range(200):
                writer.write(demonstrations.episode(number, 5 + number % 3))

        with pytest.raises(DiskFullError, match=r"does not fit.*untouched"):
            fill()
        finished = len(writer.rows)
        assert finished >= 1
        assert not list((folder / ".drafts").iterdir())
    assert check_whole(folder, finished, demonstrations, same_steps) == finished


def test_a_truncated_video_is_named(tmp_path, demonstrations):
    path = write_two(tmp_path, demonstrations) / VIDEO
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(TruncatedVideoError, match=r"file-000\.mp4.*cut short"):
        list(LeRobotReader(tmp_path).read("000000"))


def test_a_video_of_two_codecs_is_named(tmp_path):
    """As lerobot's merge joins a set (H.264) with one that its delete or split has coded anew (AV1)."""
    theirs = Path(__file__).parent / "written_by_lerobot/videos/observation.images.front/chunk-000/file-000.mp4"
    ours, joined = tmp_path / "ours.mp4", tmp_path / "joined.mp4"
    encoder = VideoEncoder(ours, 10, 64, 64)
    for gray in range(0, 160, 10):
        encoder.add(np.full((64, 64, 3), gray, np.uint8))
    encoder.finish()
    concatenate(ours, 16, theirs, joined, 10)
    assert count_frames(joined) == 32
    assert len(list(read_frames(joined, 0.0, 14, 10.0))) == 14
    with pytest.raises(TruncatedVideoError, match=r"joined\.mp4 .* frames are there, but are not of one codec"):
        list(read_frames(joined, 1.6, 16, 10.0))


def test_a_video_that_lacks_frames_is_named(tmp_path, demonstrations):
    write_two(tmp_path / "short", demonstrations)
    with LeRobotWriter(tmp_path / "one", demonstrations.description, demonstrations.sizes) as writer:
        writer.write(demonstrations.episode(0, 5))
    shutil.copy(tmp_path / "one" / VIDEO, tmp_path / "short" / VIDEO)
    reader = LeRobotReader(tmp_path / "short")
    assert len(list(reader.read("000000"))) == 5
    with pytest.raises(TruncatedVideoError, match=r"ends after 0 of 6 frames"):
        list(reader.read("000001"))
    (tmp_path / "short" / VIDEO).unlink()
    with pytest.raises(TruncatedVideoError, match="does not exist"):
        list(reader.read("000000"))


def rewrite(path, change):
    pq.write_table(change(pq.read_table(path)), path)


def test_a_missing_column_is_named(tmp_path, demonstrations):
    write_two(tmp_path, demonstrations)
    rewrite(tmp_path / TABLE, lambda table: table.drop_columns(["observation.state"]))
    with pytest.raises(MissingColumnError, match=r"no column \['observation\.state'\]"):
        list(LeRobotReader(tmp_path).read("000000"))


def test_a_missing_column_of_the_list_is_named(tmp_path, demonstrations):
    write_two(tmp_path, demonstrations)
    listed = tmp_path / "meta/episodes/chunk-000/file-000.parquet"
    rewrite(listed, lambda table: table.drop_columns(["dataset_from_index"]))
    with pytest.raises(MissingColumnError, match="dataset_from_index"):
        LeRobotReader(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_in_actions_is_named(tmp_path, demonstrations, bad):
    write_two(tmp_path, demonstrations)

    def spoil(table):
        values = table["action"].to_pylist()
        values[6][2] = bad
        position = table.column_names.index("action")
        return table.set_column(position, "action", pa.array(values, table["action"].type))

    rewrite(tmp_path / TABLE, spoil)
    reader = LeRobotReader(tmp_path)
    assert len(list(reader.read("000000"))) == 5  # the episode before is none the worse
    with pytest.raises(NotFiniteError, match="episode '000001', step 1: column 'action'"):
        list(reader.read("000001"))


def test_a_table_that_is_cut_short_is_named(tmp_path, demonstrations):
    write_two(tmp_path, demonstrations)
    rewrite(tmp_path / TABLE, lambda table: table.slice(0, 8))
    reader = LeRobotReader(tmp_path)
    with pytest.raises(DamagedDataError, match="3 of the 6 steps"):
        list(reader.read("000001"))
    content = (tmp_path / TABLE).read_bytes()
    (tmp_path / TABLE).write_bytes(content[:-40])
    with pytest.raises(DamagedDataError, match=r"file-000\.parquet cannot be read"):
        list(reader.read("000000"))


def test_the_wrong_convention_is_named(tmp_path, demonstrations):
    write_two(tmp_path, demonstrations)
    other = type(demonstrations.convention).of_one_tool("base", "relative", "rotation_vector", "closed_is_one", 10.0, 1)
    with pytest.raises(ConventionError, match="gripper: 'open_is_one' here, 'closed_is_one' there"):
        LeRobotReader(tmp_path, convention=other)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("meta/info.json", b"{", DamagedDataError),
        ("meta/info.json", b'{"codebase_version": "v2.1"}', DataError),
        ("meta/info.json", b'{"codebase_version": "v3.0"}', MissingColumnError),
        ("meta/vla_ros.json", b"{}", DamagedDataError),
        ("meta/tasks.parquet", b"nothing", DamagedDataError),
        ("meta/episodes/chunk-000/file-000.parquet", b"nothing", DamagedDataError),
    ],
)
def test_damaged_metadata_is_named(tmp_path, demonstrations, name, content, error):
    write_two(tmp_path, demonstrations)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=Path(name).name):
        LeRobotReader(tmp_path)


def test_what_is_no_data_set_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no LeRobot data set"):
        LeRobotReader(tmp_path)
