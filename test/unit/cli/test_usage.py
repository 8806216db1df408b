"""Values that make no sense are refused before anything starts: one sentence, exit code 2 or 1, JSON where asked."""

from __future__ import annotations

import json

import pytest

from vla_ros.cli.main import main


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("collect --processes 0", "--processes: got '0', expected a whole number of at least 1"),
        ("collect --episodes 0", "--episodes: got '0', expected a whole number of at least 1"),
        ("collect --episodes -2", "--episodes: got '-2'"),
        ("collect --seed -1", "--seed: got '-1', expected a whole number of at least 0"),
        ("collect --world pick --varied-from 5", "--varied-from has no effect with --world pick"),
        ("demo --seed -1", "--seed: got '-1'"),
        ("demo --timeout nan", "--timeout: got 'nan', expected a finite number of more than 0"),
        ("demo --timeout inf", "--timeout: got 'inf'"),
        ("eval --episodes 0", "--episodes: got '0'"),
        ("eval --processes 0", "--processes: got '0'"),
        ("record --timeout 0", "--timeout: got '0'"),
        ("train --steps 0", "--steps: got '0'"),
        ("train --learning-rate 0", "--learning-rate: got '0'"),
        ("train --device gpu", "--device: got 'gpu', expected auto, cpu, cuda or cuda:<number>"),
        ("train --device mps", "--device: got 'mps', expected auto, cpu, cuda or cuda:<number>"),
        ("eval --device mps", "--device: got 'mps'"),
        ("models --device mps", "--device: got 'mps'"),
        ("models keypiont", "did you mean 'keypoint'?"),
        ("bench safety --load-minutes 0", "--load-minutes: got '0'"),
        ("train --config nofile.yaml", "--config nofile.yaml"),
        (
            "demo --robot nosuch",
            "no robot contract 'nosuch'; expected one of: fr3, panda, so101, so101_pair",
        ),
        ("demo --robot pand", "did you mean 'panda'?"),
        ("demo --policy nosuch", "use one of ['checkpoints/pick', 'checkpoints/tabletop']"),
        ("record --policy nosuch", "use one of ['checkpoints/pick', 'checkpoints/tabletop']"),
    ],
)
def test_wrong_usage_is_one_sentence(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("eval --robot nosuch", "expected one of: fr3, panda"),
        ("eval --policy nosuch", "use one of ['checkpoints/pick'"),
        ("collect --robot nosuch", "expected one of: fr3, panda"),
        ("collect --world nosuch", "no world 'nosuch'; expected one of: pick, tabletop"),
        ("train --model nosuch", "no model 'nosuch'; expected one of: clip, "),
        ("selftest --robot nosuch", "expected one of: fr3, panda"),
    ],
)
def test_names_that_are_none_are_answered_with_those_there_are(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words.split(), "--json"]) == 1
    shown = capsys.readouterr()
    assert says in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert says in json.loads(shown.out.splitlines()[-1])["error"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--data", "--config"])
def test_a_table_that_is_not_utf_8_is_one_sentence(option, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.yaml").write_bytes(b"# f\xfcr\n")
    assert main(["train", "--model", "unified", option, "table.yaml"]) in (1, 2)
    shown = capsys.readouterr().err
    assert "table.yaml: byte 3 is 0xfc, expected UTF-8" in shown
    assert len(shown.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "nowhere is not there"),
        ("a_file", "a_file is no data set that is known: expected a folder of "),
        ("folder", "folder is no data set that is known: expected a folder of "),
    ],
)
def test_what_is_no_data_set_is_answered_with_those_there_are(name, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    (tmp_path / "folder").mkdir()
    assert main(["train", "--model", "unified", "--data", name]) == 1
    shown = capsys.readouterr().err
    assert says in shown
    assert "Errno" not in shown
    assert len(shown.strip().splitlines()) == 1


def test_an_error_of_the_disk_is_one_sentence(capsys, monkeypatch, tmp_path):
    from vla_ros.cli.commands import selftest

    def full(arguments):
        raise OSError(28, "No space left on device", str(tmp_path / "x"))

    monkeypatch.setattr(selftest, "run", full)
    assert main(["selftest", "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.err == f"vla-ros selftest: {tmp_path / 'x'}: No space left on device\n"
    assert json.loads(shown.out)["error"] == f"{tmp_path / 'x'}: No space left on device"


def test_a_fault_of_the_package_keeps_its_traceback(monkeypatch):
    from vla_ros.cli.commands import selftest

    def broken(arguments):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(selftest, "run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["selftest"])
