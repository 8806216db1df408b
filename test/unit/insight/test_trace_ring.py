"""The ring of a trace: bounded, kept when something went wrong, readable whatever happened to its writer."""

import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from vla_ros.data.errors import DamagedDataError, DataError
from vla_ros.insight.trace.incidents import SILENCE, IncidentWatch
from vla_ros.insight.trace.layout import METADATA_RECORD, VERSION, Channel, camera_of, image_topic
from vla_ros.insight.trace.reader import read_trace, trace_files
from vla_ros.insight.trace.ring import LARGEST_MESSAGE, NS, RingLimits, TraceRing
from vla_ros.insight.trace.segment import SegmentWriter, is_finished
from vla_ros.types import SafetyState

CHANNELS = {
    "words": Channel("/left/vla/words", "std_msgs/msg/String", "string data"),
    "task": Channel("/left/vla/task", "std_msgs/msg/String", "string data", carried=True),
}
ORIGIN = {"version": VERSION, "robot": "panda", "started": "2026-01-01T00:00:00+0000"}
START = 1_800_000_000 * NS
SMALL = RingLimits(segment_seconds=10.0, ring_seconds=30.0, keep_after=2.0)


def cdr(text):
    """Return std_msgs/String as CDR (OMG DDS-XTypes 1.3, 7.4): little endian, length with the closing zero."""
    content = text.encode() + b"\0"
    return b"\x00\x01\x00\x00" + struct.pack("<I", len(content)) + content


def ring_in(folder, limits=SMALL, now=START):
    return TraceRing(folder, CHANNELS, ORIGIN, now, limits)


def play(ring, first, last, size=0):
    """Write one message a second, number N at N s, with the housekeeping of a second."""
    for second in range(first, last):
        ring.write("words", cdr(f"{second}" + " " * size), START + second * NS)
        ring.tick(START + second * NS)


def words(path):
    return [int(message.data) for _, message in read_trace(path).all("vla/words")]


def test_everything_is_read_back_by_this_package_and_by_mcap(tmp_path):
    ring = ring_in(tmp_path)
    play(ring, 0, 25)
    ring.close()
    trace = read_trace(tmp_path)
    assert words(tmp_path) == list(range(25))
    assert (trace.origin, trace.cut_short, trace.seconds) == (ORIGIN, [], 24.0)
    seen = []
    for file in trace_files(ring.run):
        with file.open("rb") as stream:
            messages = make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages()
            seen += [message.data for _, _, _, message in messages]
    assert seen == [str(n) for n in range(25)]


def test_metadata_describes_the_segments(tmp_path):
    ring = ring_in(tmp_path)
    play(ring, 0, 25)
    ring.close()
    found = yaml.safe_load((ring.run / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert found["relative_file_paths"] == [path.name for path in sorted(ring.run.glob("*.mcap"))]
    assert len(found["relative_file_paths"]) == 3
    assert found["message_count"] == sum(file["message_count"] for file in found["files"]) == 25
    assert found["starting_time"]["nanoseconds_since_epoch"] == START
    assert found["duration"]["nanoseconds"] == 24 * NS
    (topic,) = found["topics_with_message_count"]
    assert topic["topic_metadata"]["name"] == "/left/vla/words"


@pytest.mark.parametrize("which", ["folder", "file"])
def test_rosbags_reads_it(tmp_path, which):
    reader = pytest.importorskip("rosbags.highlevel", reason="the rosbags package is not installed")
    ring = ring_in(tmp_path)
    ring.write("task", cdr("x"), START)
    play(ring, 1, 25)
    ring.close()
    paths = [ring.run] if which == "folder" else sorted(ring.run.glob("*.mcap"))
    with reader.AnyReader(paths) as bag:
        found = [bag.deserialize(raw, c.msgtype).data for c, _, raw in bag.messages() if c.topic == "/left/vla/words"]
    assert found == [str(n) for n in range(1, 25)]


def test_the_ring_forgets_its_oldest_segments(tmp_path):
    ring = ring_in(tmp_path)
    play(ring, 0, 200)
    ring.close()
    found = words(tmp_path)
    assert found == list(range(found[0], 200))
    assert 30 <= len(found) <= 30 + 2 * 10 + 1


def test_the_ring_is_bounded_in_bytes(tmp_path):
    ring = ring_in(tmp_path, RingLimits(segment_bytes=20_000, ring_bytes=100_000))
    blob = bytes(range(256)) * 16
    for second in range(200):
        content = b"".join(bytes((byte + second * 7) % 256 for byte in blob[:4000]) for _ in range(1))
        ring.write("words", content, START + second * NS)
        ring.tick(START + second * NS)
    ring.close()
    size = sum(file.stat().st_size for file in ring.run.glob("*.mcap"))
    assert size <= 100_000 + 2 * 20_000


def test_a_task_that_holds_begins_every_segment_and_is_read_once(tmp_path):
    ring = ring_in(tmp_path)
    ring.write("task", cdr("pick"), START)
    play(ring, 1, 200)
    ring.close()
    trace = read_trace(tmp_path)
    assert [(at, message.data) for at, message in trace.all("vla/task")] == [(START, "pick")]
    assert trace.start > START  # the beginning of what was recorded, not when the task was given


def test_an_incident_moves_the_ring_out_with_what_followed(tmp_path):
    ring = ring_in(tmp_path)
    play(ring, 0, 15)
    ring.incident("estop", START + 14 * NS)
    ring.incident("hold_tracking", START + 15 * NS)  # kept with the first
    play(ring, 15, 40)
    ring.close()
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.name.endswith("_estop")
    assert words(kept) == list(range(17))
    assert words(ring.run) == list(range(17, 40))
    named = yaml.safe_load((kept / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["relative_file_paths"]
    assert named == [path.name for path in sorted(kept.glob("*.mcap"))]


def test_an_incident_at_the_end_is_kept_at_once(tmp_path):
    ring = ring_in(tmp_path)
    play(ring, 0, 3)
    ring.incident("estop", START + 2 * NS)
    assert words(ring.close()) == [0, 1, 2]
    assert not ring.run.exists()


def test_what_is_kept_is_bounded_and_the_newest_stays(tmp_path):
    ring = ring_in(tmp_path, RingLimits(keep_after=0.0, kept_bytes=1))
    for second in range(3):
        ring.incident("estop", START + second * NS)
        play(ring, second, second + 1)
    ring.close()
    (kept,) = (tmp_path / "kept").iterdir()
    assert words(kept) == [2]


def test_rings_of_earlier_runs_are_bounded_but_not_one_that_is_written(tmp_path):
    held = ring_in(tmp_path, now=START)
    play(held, 0, 3)
    for run in range(1, 5):
        ring = ring_in(tmp_path, RingLimits(ring_bytes=1), now=START + 100 * run * NS)
        play(ring, 0, 3)
        ring.close()
    rings = [path for path in tmp_path.iterdir() if any(path.glob("*.mcap"))]
    assert len(rings) == 3  # the one that is held, the newest, and the one that was the newest when that began
    play(held, 3, 5)
    held.close()
    assert words(held.run) == [0, 1, 2, 3, 4]


KILLED = """
import sys; from pathlib import Path; sys.path.insert(0, {tests!r})
from test_trace_ring import *
ring = ring_in(Path({folder!r}), RingLimits(segment_seconds=1000.0))
play(ring, 0, 100)
ring.write("words", cdr("100"), START + 100 * NS)
print(ring.run, flush=True)
sys.stdin.read()
"""


def test_a_killed_writer_leaves_what_it_had_flushed(tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    run = Path(process.stdout.readline().strip())
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30.0)
    assert words(run) == list(range(100))
    assert read_trace(run).cut_short == ["trace_000000.mcap"]
    ring = ring_in(tmp_path)  # the next run keeps it
    ring.close()
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.name == f"{run.name}_interrupted"
    assert words(kept) == list(range(100))


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_is_read_up_to_there(tmp_path, fraction):
    ring = ring_in(tmp_path / "whole", RingLimits(segment_seconds=1000.0))
    play(ring, 0, 100)
    ring.close()
    whole = next(ring.run.glob("*.mcap")).read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: int(fraction * len(whole))])
    trace = read_trace(cut)
    found = words(cut)
    assert found == list(range(len(found)))
    assert found
    assert trace.cut_short == ["cut.mcap"]
    assert not is_finished(cut)


def test_a_damaged_chunk_ends_the_reading_and_is_not_shown(tmp_path):
    ring = ring_in(tmp_path, RingLimits(segment_seconds=1000.0))
    play(ring, 0, 20)
    ring.close()
    file = next(ring.run.glob("*.mcap"))
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)
    found = words(file)
    assert found == list(range(len(found)))
    assert len(found) < 20


def test_what_is_no_trace_or_another_version_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "text.mcap").write_text("no trace")
    (tmp_path / "empty.mcap").write_bytes(b"")
    for name in ("text.mcap", "empty.mcap"):
        with pytest.raises(DataError, match=rf"{name} is no decision trace: it has no record '{METADATA_RECORD}'"):
            read_trace(tmp_path / name)
    SegmentWriter(tmp_path / "later.mcap", ORIGIN | {"version": "7"}, START).finish()
    with pytest.raises(DataError, match=r"later\.mcap is a trace of version '7', expected 1: read it with"):
        read_trace(tmp_path / "later.mcap")
    SegmentWriter(tmp_path / "nothing.mcap", ORIGIN, START).finish()
    with pytest.raises(DamagedDataError, match="cut short before its first message"):
        read_trace(tmp_path / "nothing.mcap")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="holds no trace"):
        read_trace(tmp_path / "folder")


@pytest.mark.parametrize("definition", ["string data\nnothing_msgs/Nothing x", "strong data"])
def test_a_definition_that_does_not_fit_is_one_sentence(tmp_path, definition):
    writer = SegmentWriter(tmp_path / "a.mcap", ORIGIN, START)
    writer.write(Channel("/vla/words", "std_msgs/msg/String", definition), cdr("x")[:7], START, START)
    writer.finish()
    with pytest.raises(DataError):  # at the definition, or at the message
        list(read_trace(tmp_path / "a.mcap").all("vla/words"))


def test_a_message_that_is_too_large_is_left_out(tmp_path):
    ring = ring_in(tmp_path)
    ring.write("words", bytes(LARGEST_MESSAGE + 1), START)
    play(ring, 0, 2)
    ring.close()
    assert (ring.left_out, words(ring.run)) == (1, [0, 1])


def test_a_disk_that_refuses_costs_one_segment_and_is_survived(tmp_path):
    ring = ring_in(tmp_path)
    play(ring, 0, 2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            play(ring, 2, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    play(ring, 3, 5)
    ring.close()
    assert words(ring.run) == [0, 1, 3, 4]
    named = yaml.safe_load((ring.run / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert named["relative_file_paths"] == ["trace_000001.mcap"]  # the other one has no end


def test_the_index_serves_a_reader_that_seeks(tmp_path):
    ring = ring_in(tmp_path, RingLimits(segment_seconds=1000.0))
    play(ring, 0, 50)
    ring.close()
    with next(ring.run.glob("*.mcap")).open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        found = [m.log_time for _, _, m in reader.iter_messages(starting_at=START + 40 * NS)]
        assert reader.get_summary().statistics.message_count == 50
    assert found == [START + n * NS for n in range(40, 50)]


def test_camera_topics():
    assert camera_of(f"/left/{image_topic('front')}") == "front"
    assert camera_of("/vla/safety_status") == camera_of("/camera/front/compressed") == ""


HOLD, RUN, ESTOP = SafetyState.HOLD, SafetyState.RUN, SafetyState.ESTOP


def test_faults_are_incidents_once_and_orders_are_none():
    watch = IncidentWatch()
    assert watch.safety(SafetyState.DISARMED, "disarmed", "", armed=False) is None
    assert watch.safety(HOLD, "waiting", "", armed=True) is None
    assert watch.safety(RUN, "ok", "", armed=True) is None
    assert watch.safety(HOLD, "instruction_stop", "", armed=True) is None
    assert watch.safety(HOLD, "policy_silent", "gone", armed=True).what == "hold_policy_silent"
    assert watch.safety(HOLD, "policy_silent", "gone", armed=True) is None
    assert watch.safety(ESTOP, "estop_pressed", "pressed", armed=False).what == "estop"
    assert watch.safety(ESTOP, "estop_latched", "pressed", armed=False) is None
    assert watch.safety(HOLD, "state_stale", "", armed=False) is None  # nobody was driving


def test_a_silent_node_is_an_incident_and_one_that_left_is_none():
    watch = IncidentWatch()
    watch.alive(["safety_node", "policy_node"], 0.0)
    watch.alive([], 1.0, leaving=["policy_node"])
    assert watch.silent(SILENCE) is None
    assert watch.silent(SILENCE + 0.1).sentence.startswith("safety_node has not reported its health for 5 s")
    assert watch.silent(SILENCE + 9.0) is None
