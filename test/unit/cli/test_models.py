import json

import pytest
import torch

from vla_ros.cli import main as cli
from vla_ros.cli.models import count
from vla_ros.models.build import MODELS
from vla_ros.models.guide import GUIDES
from vla_ros.models.measure import configuration, measure


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


NAMES = ["foundation", "rt2", "diffusion", "flow", "clip", "grounded", "memory_efficient", "real_time", "unified"]


def test_every_network_has_advice_and_two_sizes():
    assert set(NAMES) <= set(GUIDES)
    assert set(GUIDES) == set(MODELS)
    for name in NAMES:
        tiny, full = configuration(name, "tiny"), configuration(name, "full")
        assert {"cameras", "vocabulary", "state_width", "horizon"} <= set(tiny) & set(full)
        assert tiny != full


def test_figures_are_printed_and_are_those_of_the_network(capsys):
    assert cli.main(["models", "flow", "grounded", "--seconds", "0.05", "--json"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)["models"]
    assert set(figures) == {"flow", "grounded"}
    assert "Use when a wrong object is worse than a question" in " ".join(" ".join(table).split())
    flow = figures["flow"]
    assert flow["parameters"] > 1e5
    assert flow["weights_mb"] == pytest.approx(4 * flow["parameters"] / 1e6, rel=1e-3)
    assert 0.1 < flow["act_ms"] < 5000
    assert flow["step_mb"] > flow["weights_mb"]  # the gradients alone are as large
    assert flow["full_parameters"] > 100 * flow["parameters"]
    assert sum(line.startswith(("flow ", "grounded ")) for line in table) == 2


def test_the_training_step_can_be_left_out(capsys):
    assert cli.main(["models", "flow", "--seconds", "0.01", "--no-train", "--markdown", "--json"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["models"]["flow"]["step_ms"] is None
    assert table[0].startswith("| network |")
    assert len({line.count("|") for line in table}) == 1


def test_an_unknown_network_is_a_usage_error(capsys):
    assert cli.main(["models", "difusion"]) == 2
    assert "did you mean 'diffusion'?" in capsys.readouterr().err
    assert cli.main(["models", "zzz"]) == 2
    assert "choose from: foundation" in capsys.readouterr().err


def test_what_cannot_be_measured_is_said(capsys, monkeypatch):
    from vla_ros.errors import ContractError
    from vla_ros.models import measure as module

    def fail(name, config):
        raise ContractError("Transformers is absent")

    monkeypatch.setattr(module, "build_model", fail)
    assert cli.main(["models", "flow", "--json"]) == 1
    shown = capsys.readouterr()
    assert "flow: not measured: Transformers is absent" in shown.err
    assert json.loads(shown.out.splitlines()[-1])["failures"] == {"flow": "Transformers is absent"}


def test_a_measured_network_is_measured_on_the_device_it_is_given():
    figures = measure("grounded", "tiny", torch.device("cpu"), seconds=0.01, train=False)
    assert figures.act_mb > 0
    assert figures.step_mb is None


@pytest.mark.parametrize(("number", "text"), [(5.3e9, "5.3 B"), (84e6, "84 M"), (339643, "0.34 M")])
def test_numbers_for_people(number, text):
    assert count(int(number)) == text
