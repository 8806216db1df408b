"""A name leads to a network; a wrong name leads to near ones."""

from __future__ import annotations

import importlib

import pytest

from vla_ros.errors import ContractError
from vla_ros.models.build import MODELS, build_model
from vla_ros.models.contract import VlaModel


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_name_leads_to_a_network(name: str) -> None:
    module, _, attribute = MODELS[name].partition(":")
    assert issubclass(getattr(importlib.import_module(module), attribute), VlaModel)


def test_an_unknown_name_gets_near_ones() -> None:
    with pytest.raises(ContractError, match="keypoint"):
        build_model("keypiont", {})
