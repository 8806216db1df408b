"""The RT-2 network beyond what all keep: its tokens, the order of its stream, its language, its full size."""

import numpy as np
import pytest
import torch

from vla_ros.errors import ContractError
from vla_ros.models.contract import ModelTarget
from vla_ros.models.networks.rt2 import Rt2Model


@pytest.fixture
def network(sizes):
    torch.manual_seed(0)
    return Rt2Model.from_config(Rt2Model.tiny_config(**sizes)).eval()


def target(positions, rotations, gripper):
    """One sentence about one scene, every row the same."""
    rows = torch.ones(1, 1, 12, 1)
    return ModelTarget(torch.tensor([*positions, *rotations]) * rows, gripper * rows, torch.ones(1, 1))


def test_tokens_by_hand(network):
    # 17 words, begin is 17, bin 0 is 18. Position and rotation: 256 bins of 8 / 256 from -4; gripper: 2 / 256 from -1.
    assert (network.begin, network.first_action) == (17, 18)
    assert network.head.weight.shape[0] == 18 + 256
    tokens = network.tokenize(target([0.0, -4.0, 3.99], [0.04, 9.0, -9.0], 1.0))
    assert tokens.shape == (1, 1, 3, 7)
    for row in tokens[0, 0].tolist():
        assert [t - 18 for t in row] == [128, 0, 255, 129, 255, 0, 255]
    assert network.tokenize(target([0.0] * 3, [0.0] * 3, 0.0))[..., 6].unique().tolist() == [18]


def test_tokens_are_those_of_the_bins(network, frames):
    expected = network.bins.encode(frames.target.actions()[:, :, network.rows].numpy()) + network.first_action
    np.testing.assert_array_equal(network.tokenize(frames.target).numpy(), expected)


@pytest.mark.parametrize(
    ("rows", "output", "worst"),
    [
        (0, list(range(12)), 0.016),
        (3, [0, 6, 11], 0.08),
        (2, [0, 11], 0.15),
        (40, list(range(12)), 0.016),
    ],
)
def test_a_chunk_survives_its_tokens(sizes, frames, rows, output, worst):
    """Half a bin, 8 / 256 / 2 = 0.0156, and on recorded chunks what interpolation leaves out."""
    network = Rt2Model.from_config({**Rt2Model.tiny_config(**sizes), "predicted_rows": rows})
    assert network.rows == output
    tokens = network.tokenize(frames.target)
    logits = torch.nn.functional.one_hot(tokens.flatten(2) - network.first_action, 256).float() * 50.0
    columns = network._columns(tokens.flatten(2), logits)
    there = frames.target.target_visible.bool()
    error = (columns["continuous"] - frames.target.continuous)[there].abs()
    assert error.mean() < worst
    if len(output) == 12:
        assert error.max() <= 8 / 256 / 2 + 1e-5
        assert ((columns["binary"] > 0) == (frames.target.binary > 0.5))[there].all()


def test_one_said_row_is_refused(sizes):
    with pytest.raises(ContractError, match="predicted_rows is 1"):
        Rt2Model.from_config({**Rt2Model.tiny_config(**sizes), "predicted_rows": 1})


def test_nothing_but_actions_can_be_said(network, frames):
    with torch.no_grad():
        # The head would rather say a word, or begin, than any action.
        words = network.head.weight[: network.first_action]
        words.copy_(1e3 * torch.randn_like(words))
        features, first = network._teacher_forcing(
            network.stream.prefix(frames.inputs), network.tokenize(frames.target).flatten(0, 1).flatten(1)
        )
        assert (network.head(features[:, first:]).argmax(dim=-1) < network.first_action).float().mean() > 0.9
        for temperature in (0.0, 1.0, 100.0):
            tokens = network.decode_tokens(frames.inputs, temperature, torch.Generator().manual_seed(0))
            assert tokens.shape == (32, 4, 3, 7)
            assert tokens.min() >= network.first_action
            assert tokens.max() < network.first_action + 256
    assert torch.isfinite(network.predict(frames.inputs).continuous).all()


def test_decoding_is_what_teaching_scores(network, frames):
    """The tokens said one by one, with kept keys, are the most likely under the whole stream read at once."""
    with torch.no_grad():
        tokens = network.decode_tokens(frames.inputs).flatten(2).flatten(0, 1)
        features, first = network._teacher_forcing(network.stream.prefix(frames.inputs), tokens)
        logits = network.head(features[:, first:])[..., network.first_action :]
    chosen = logits.gather(-1, (tokens - network.first_action)[..., None])[..., 0]
    torch.testing.assert_close(chosen, logits.amax(dim=-1), rtol=1e-5, atol=1e-5)


def test_a_later_action_changes_no_earlier_one(network, frames):
    tokens = network.tokenize(frames.target).flatten(0, 1).flatten(1)
    with torch.no_grad():
        prefix = network.stream.prefix(frames.inputs)
        before, first = network._teacher_forcing(prefix, tokens)
        other = tokens.clone()
        other[:, 10] = network.first_action + (other[:, 10] - network.first_action + 100) % 256
        change = (network._teacher_forcing(prefix, other)[0] - before).abs().amax(dim=2)
    assert (change[:, : first + 11] == 0).all()  # slot 10 is read after `begin` and ten others
    assert (change[:, first + 11] > 1e-4).all()


def test_a_later_word_changes_no_earlier_guess(network, frames):
    inputs = frames.inputs
    tokens = inputs.tokens.clone()
    tokens[..., 2] = (tokens[..., 2] - 2 + 1) % 15 + 2
    with torch.no_grad():
        before = network.language_logits(inputs)
        after = network.language_logits(type(inputs)(inputs.images, inputs.state, tokens))
    assert before.shape == (32, 4, 11, 274)
    change = (after - before).abs().amax(dim=-1)
    assert (change[..., :3] == 0).all()
    assert (change[..., 3] > 1e-4).all()


def test_the_language_loss_by_hand(network, frames):
    """Every word from those before it, then `begin`; padding counts for nothing."""
    with torch.no_grad():
        logs = network.language_logits(frames.inputs).log_softmax(dim=-1)
        _, parts = network.compute_loss(frames.inputs, frames.target)
    total, count = 0.0, 0
    for i in range(32):
        for j in range(4):
            words = [int(t) for t in frames.inputs.tokens[i, j] if t] + [network.begin]
            total -= sum(float(logs[i, j, place, word]) for place, word in enumerate(words))
            count += len(words)
    assert parts["language"] == pytest.approx(network.config.language_weight * total / count, rel=1e-4)


def test_the_gripper_is_open_where_the_upper_bins_are_likelier(network):
    tokens = torch.full((1, 1, 21), network.first_action)
    logits = torch.zeros(1, 1, 21, 256)
    logits[..., 6, 200] = 50.0
    logits[..., 20, 3] = 50.0
    gripper = network._columns(tokens, logits)["binary"][0, 0, :, 0]
    assert (gripper[:3] > 40).all()  # rows nearest to the first that is said
    assert (gripper[9:] < -40).all()
    assert gripper[4:8].abs().max() < 1e-4  # an even chance


def test_the_full_size_is_what_its_parts_add_up_to():
    with torch.device("meta"):
        network = Rt2Model.from_config(Rt2Model.full_config())

    def linear(inputs, outputs):
        return inputs * outputs + outputs

    def block(d):  # attention 4 d^2 + 4 d, perceptron 8 d^2 + 5 d, norms 2 d each
        return 12 * d * d + 13 * d

    d, ids = 4096, 32000 + 1 + 256
    images = 1024 * (3 * 14 * 14 + 1) + 16 * 16 * 1024 + 24 * block(1024) + 2 * 1024 + linear(1024, d)
    stream = linear(10, d) + linear(d, d) + d + d + ids * d + 64 * d + 32 * block(d) + 2 * d
    heads = 4 * 7 * d + d * ids + linear(d, 1) + linear(d, 3)
    assert network.parameter_count == images + stream + heads
    assert 6.9e9 < network.parameter_count < 7.2e9
