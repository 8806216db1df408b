"""A name leads to a network; a wrong name leads to near ones."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from vla_ros.errors import ContractError
from vla_ros.models.build import MODELS, SIZES, build_model, model_class, sized_config
from vla_ros.models.contract import VlaModel


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_name_leads_to_a_network(name: str) -> None:
    module, _, attribute = MODELS[name].partition(":")
    assert issubclass(getattr(importlib.import_module(module), attribute), VlaModel)


def test_an_unknown_name_gets_near_ones() -> None:
    with pytest.raises(ContractError, match="keypoint"):
        build_model("keypiont", {})


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_the_callers_own(size: str) -> None:
    def change(values: dict) -> None:
        for value in values.values():
            if isinstance(value, dict):
                change(value)
        values["changed"] = 1

    change(sized_config("clip", size, {}))
    assert "changed" not in str(sized_config("clip", size, {}))


def test_network_of_an_installed_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "from vla_ros.models.networks.unified import UnifiedModel\nclass Mine(UnifiedModel):\n    'Of its own.'\n"
    )
    information = tmp_path / "mine-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[vla_ros.models]\nmine = mine:Mine\nunified = mine:Mine\n")
    with pytest.raises(ContractError, match="mine"):
        build_model("mine", {})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert model_class("mine").__module__ == "mine"
    assert model_class("unified").__module__ == "vla_ros.models.networks.unified"  # a built-in name stays
