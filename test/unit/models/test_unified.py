"""The unified network beyond what all keep: the order of its stream, how it is taught, its full size."""

import pytest
import torch

from vla_ros.models.columns import ActionColumns
from vla_ros.models.networks.unified import UnifiedModel, _round_binary


@pytest.fixture
def network(sizes):
    torch.manual_seed(0)
    return UnifiedModel.from_config(UnifiedModel.tiny_config(**sizes)).eval()


def test_a_later_row_changes_no_earlier_one(network, frames):
    actions = frames.target.actions().flatten(0, 1)
    with torch.no_grad():
        prefix = network.stream.prefix(frames.inputs)
        before = network._teacher_forcing(prefix, actions)
        for row in (0, 4, 10):
            other = actions.clone()
            other[:, row] += 1.0
            change = (network._teacher_forcing(prefix, other) - before).abs().amax(dim=2)
            assert (change[:, : row + 1] == 0).all()  # row r is read in front of row r + 1
            assert (change[:, row + 1] > 1e-4).all()


def test_a_word_changes_no_image_token_and_every_row(network, frames):
    with torch.no_grad():
        prefix = network.stream.prefix(frames.inputs)
        before, _ = network.stream.transformer(prefix.tokens, prefix.real)
        other = prefix.tokens.clone()
        other[:, network.stream.words_at] = torch.randn_like(other[:, 0])
        after, _ = network.stream.transformer(other, prefix.real)
    change = (after - before).abs().amax(dim=2)
    assert (change[:, : network.stream.words_at] == 0).all()
    assert (change[:, network.stream.words_at] > 1e-4).all()


def test_saying_is_what_teaching_scores(network, frames):
    """Taught with the rows that it said, it says the same rows again: the kept keys change nothing."""
    with torch.no_grad():
        output = network.predict(frames.inputs)
        rows = torch.cat([output.continuous, output.binary], dim=-1).flatten(0, 1)
        read = _round_binary(rows.flatten(0, 1), network.config.action).view_as(rows)
        again = network.say(network._teacher_forcing(network.stream.prefix(frames.inputs), read))
    torch.testing.assert_close(again, rows, rtol=1e-4, atol=1e-5)


def test_rows_are_disturbed_while_training_alone(network, frames):
    actions = frames.target.actions().flatten(0, 1)
    with torch.no_grad():
        prefix = network.stream.prefix(frames.inputs)
        assert network._teacher_forcing(prefix, actions).equal(network._teacher_forcing(prefix, actions))
        network.train()
        change = (
            (network._teacher_forcing(prefix, actions) - network._teacher_forcing(prefix, actions)).abs().amax(dim=2)
        )
    assert (change[:, 0] == 0).all()  # the start token is never hidden
    assert (change[:, -1] > 0).float().mean() > 0.99


def test_the_gripper_is_read_as_it_is_taught():
    row = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, -3.0], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.2]])
    assert _round_binary(row, ActionColumns())[:, 6].tolist() == [-1.0, 1.0]
    assert _round_binary(row, ActionColumns())[:, :6].equal(row[:, :6])


def test_the_full_size_is_what_its_parts_add_up_to():
    with torch.device("meta"):
        network = UnifiedModel.from_config(UnifiedModel.full_config())

    def linear(inputs, outputs):
        return inputs * outputs + outputs

    d = 2048
    block = 12 * d * d + 13 * d  # attention 4 d^2 + 4 d, perceptron 8 d^2 + 5 d, norms 2 d each
    images = d * (3 * 16 * 16 + 1) + 2 * 14 * 14 * d + 2 * d
    stream = linear(10, d) + linear(d, d) + d + d + 32000 * d + 64 * d + 24 * block + 2 * d
    rows = (16 + 1 + 1) * d + linear(7, d) + linear(d, d) + linear(d, 7) + linear(d, 1) + linear(d, 3)
    assert network.parameter_count == images + stream + rows
    assert 1.25e9 < network.parameter_count < 1.35e9
