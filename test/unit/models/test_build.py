"""A name leads to a network; a wrong name leads to near ones."""

from __future__ import annotations

import importlib

import pytest

from vla_ros.errors import ContractError
from vla_ros.models.build import MODELS, SIZES, build_model, sized_config
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
