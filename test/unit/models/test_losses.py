"""The shared parts of the loss, by hand."""

import pytest
import torch

from vla_ros.models.contract import ModelOutput, ModelTarget
from vla_ros.models.losses import mean_where_present, side_losses


def test_the_mean_counts_who_is_there():
    values = torch.tensor([[[1.0, 3.0], [100.0, 100.0]], [[4.0, 4.0], [7.0, 9.0]]])
    visible = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert mean_where_present(values, visible) == pytest.approx((2.0 + 4.0 + 8.0) / 3)
    assert mean_where_present(values, torch.zeros(2, 2)) == 0.0
    assert mean_where_present(torch.tensor([[2.0, 9.0]]), torch.tensor([[1.0, 0.0]])) == 2.0


def test_heads_that_say_nothing_cost_nothing():
    zeros, row = torch.zeros(1, 1, 2, 6), torch.zeros(1, 1, 2, 1)
    silent = ModelOutput(zeros, row)
    target = ModelTarget(zeros, row, torch.ones(1, 1), target=torch.zeros(1, 1, 3))
    assert side_losses(silent, target) == {}
    output = ModelOutput(zeros, row, target=torch.full((1, 1, 3), 0.5), target_visible=torch.zeros(1, 1))
    parts = side_losses(output, target)
    assert parts["target"] == pytest.approx(0.5 - 0.05)  # |x| - beta / 2
    assert parts["present"] == pytest.approx(0.2 * 0.693147, rel=1e-5)
    absent = ModelTarget(zeros, row, torch.zeros(1, 1), target=torch.zeros(1, 1, 3))
    assert side_losses(output, absent)["target"] == 0.0  # nothing is there to be somewhere
    assert side_losses(output, absent)["present"] > 0.0
