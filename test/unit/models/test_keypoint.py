"""The shipped network: shapes, the pointing loss by hand, and that its pieces do what they say."""

from __future__ import annotations

import pytest
import torch

from vla_ros.errors import ContractError
from vla_ros.models.contract import ModelInput
from vla_ros.models.layers.pointing import pointing_loss
from vla_ros.models.networks.keypoint import KeypointConfig, KeypointModel

CONFIG = {"cameras": {"front": [32, 48]}, "vocabulary": 9, "state_width": 10, "horizon": 5}


def _input(scenes: int = 2, sentences: int = 3) -> ModelInput:
    torch.manual_seed(1)
    tokens = torch.randint(1, 9, (scenes, sentences, 6))
    return ModelInput({"front": torch.rand(scenes, 3, 32, 48)}, torch.randn(scenes, 10), tokens)


def test_shapes_and_attention_that_sums_to_one() -> None:
    output = KeypointModel.from_config(CONFIG).predict(_input())
    assert output.continuous.shape == (2, 3, 5, 6)
    assert output.binary.shape == (2, 3, 5, 1) and output.attention["front"].shape == (2, 3, 8, 12)
    torch.testing.assert_close(output.attention["front"].sum(dim=(-1, -2)), torch.ones(2, 3))


def test_padding_does_not_change_what_is_said() -> None:
    network = KeypointModel.from_config(CONFIG).eval()
    inputs = _input()
    longer = ModelInput(inputs.images, inputs.state, torch.cat([inputs.tokens, torch.zeros(2, 3, 4).long()], dim=-1))
    torch.testing.assert_close(network.predict(inputs).continuous, network.predict(longer).continuous)


def test_one_sentence_does_not_see_another() -> None:
    network = KeypointModel.from_config(CONFIG).eval()
    inputs = _input()
    changed = inputs.tokens.clone()
    changed[:, 1] = 1
    other = network.predict(ModelInput(inputs.images, inputs.state, changed))
    output = network.predict(inputs)
    torch.testing.assert_close(other.continuous[:, 0], output.continuous[:, 0])
    assert not torch.allclose(other.continuous[:, 1], output.continuous[:, 1])


def test_the_pointing_loss_by_hand() -> None:
    """The point lies in the centre of cell (row 1, column 2) of 4 x 6: the loss is -log of the weight there."""
    attention = torch.full((1, 1, 4, 6), 0.5 / 23)
    attention[0, 0, 1, 2] = 0.5
    pixels = torch.tensor([[[2.5 / 6, 1.5 / 4]]])
    loss = pointing_loss(attention, pixels, torch.ones(1, 1))
    assert float(loss) == pytest.approx(-torch.tensor(0.5).log().item(), abs=1e-3)
    halfway = torch.tensor([[[3.0 / 6, 1.5 / 4]]])  # between columns 2 and 3: half the weight each
    expected = -0.5 * (torch.tensor(0.5).log() + torch.tensor(0.5 / 23).log()).item()
    assert float(pointing_loss(attention, halfway, torch.ones(1, 1))) == pytest.approx(expected, abs=1e-3)
    hidden = torch.full((1, 1, 2), float("nan"))
    assert float(pointing_loss(attention, hidden, torch.ones(1, 1))) == 0.0


def test_bad_input_is_named() -> None:
    network = KeypointModel.from_config(CONFIG)
    inputs = _input()
    with pytest.raises(ValueError, match="expected 10 in the last axis"):
        network.predict(ModelInput(inputs.images, torch.randn(2, 9), inputs.tokens))
    with pytest.raises(ContractError, match="multiples of 4"):
        KeypointConfig(cameras={"front": (33, 48)}, vocabulary=9, state_width=10, horizon=5)
