import json
from pathlib import Path

import pytest
import torch

from vla_ros.cli import main as cli
from vla_ros.errors import ContractError, VlaError
from vla_ros.models.build import MODELS
from vla_ros.models.measurement import measure as module
from vla_ros.models.measurement.guide import GUIDES
from vla_ros.models.measurement.measure import configuration, measure
from vla_ros.models.measurement.report import count, fill


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


NAMES = ["foundation", "rt2", "diffusion", "flow", "clip", "grounded", "memory_efficient", "real_time", "unified"]
DOCUMENT = """# Title
<!-- guide -->
old
<!-- end -->
between
<!-- figures tiny cpu -->
old
<!-- end -->
<!-- figures full cpu -->
kept
<!-- end -->
"""


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


def test_a_document_s_tables_are_filled_and_a_picture_is_drawn(tmp_path, capsys):
    document, picture = tmp_path / "models.md", tmp_path / "models.png"
    document.write_text(DOCUMENT)
    words = [
        "models",
        "flow",
        "--seconds",
        "0.01",
        "--threads",
        "1",
        "--into",
        str(document),
        "--picture",
        str(picture),
    ]
    assert cli.main(words) == 0
    text = document.read_text()
    assert text.startswith("# Title\n<!-- guide -->\n| network | best for |")
    assert "`vla-ros models flow --size tiny --device cpu --precision fp32 --threads 1 --seconds 0.01 --into" in text
    assert "| flow | 0.34 M |" in text
    assert "PyTorch" in text
    assert "<!-- end -->\nbetween\n" in text
    assert "\nkept\n" in text
    assert "\nold\n" not in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert cli.main(words) == 0  # again: the same blocks are filled, nothing grows
    assert abs(len(document.read_text()) - len(text)) < 100


def test_a_document_without_the_block_is_named(tmp_path):
    (tmp_path / "a.md").write_text("<!-- guide -->\n")
    for block in ("guide", "figures tiny cpu"):
        with pytest.raises(VlaError, match=f"no block '<!-- {block} -->'"):
            fill(tmp_path / "a.md", block, [])


def test_the_documents_of_this_package_have_the_blocks(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
    for block in ("guide", "figures tiny cpu", "figures full cpu"):
        assert f"<!-- {block} -->" in text
    for name in MODELS:
        assert f"| `{name}` |" in text  # advice
        assert f"\n| {name} |" in text  # figures


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precision_is_the_callers_choice(precision, capsys):
    assert cli.main(["models", "flow", "--seconds", "0.01", "--no-train", "--precision", precision, "--json"]) == 0
    flow = json.loads(capsys.readouterr().out.splitlines()[-1])["models"]["flow"]
    assert flow["weights_mb"] == pytest.approx(2 * flow["parameters"] / 1e6, rel=1e-3)


def test_what_does_not_fit_the_memory_is_not_tried(capsys, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda device: 1000)
    assert cli.main(["models", "rt2", "--size", "full", "--no-train", "--json"]) == 1
    assert "the weights need 28.1 GB, 0.0 GB are free" in capsys.readouterr().err


def test_an_unknown_network_is_a_usage_error(capsys):
    assert cli.main(["models", "difusion"]) == 2
    assert "did you mean 'diffusion'?" in capsys.readouterr().err
    assert cli.main(["models", "zzz"]) == 2
    assert "expected one of: foundation" in capsys.readouterr().err


def test_what_cannot_be_measured_is_said(capsys, monkeypatch):
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
