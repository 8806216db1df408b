"""Each modality on its way to tokens: which pixel reaches which token, which word which."""

import math

import pytest
import torch

from vla_ros.errors import ContractError
from vla_ros.models.layers.encoders import (
    ImageEncoder,
    StateEncoder,
    TextEncoder,
    mean_over_words,
    sinusoidal,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_a_pixel_reaches_its_patch_alone():
    encoder = ImageEncoder({"a": (16, 24), "b": (8, 8)}, 8, patch=8, stem="patch")
    assert encoder.count == 2 * 3 + 1
    assert encoder.grids == {"a": (2, 3), "b": (1, 1)}
    images = {"a": torch.rand(1, 3, 16, 24), "b": torch.rand(1, 3, 8, 8)}
    before = encoder(images)
    images["a"][0, :, 9, 2] += 1.0  # patch row 1, column 0: token 1 * 3 + 0
    changed = (encoder(images) - before).abs().amax(dim=(0, 2)) > 0
    assert changed.nonzero().flatten().tolist() == [3]


def test_both_stems_make_the_same_grid():
    images = {"a": torch.rand(2, 3, 64, 96)}
    for stem in ("patch", "convolution"):
        assert ImageEncoder({"a": (64, 96)}, 32, patch=16, depth=1, stem=stem)(images).shape == (2, 4 * 6, 32)


def test_looks_are_split_by_camera_and_sum_to_one():
    encoder = ImageEncoder({"a": (8, 16), "b": (8, 8)}, 8, patch=8, stem="patch")
    looks = encoder.looks(torch.tensor([[0.1, 0.3, 0.6], [0.0, 0.5, 0.0]]))
    torch.testing.assert_close(looks["a"], torch.tensor([[[0.25, 0.75]], [[0.0, 1.0]]]))
    torch.testing.assert_close(looks["b"], torch.tensor([[[1.0]], [[0.0]]]))


@pytest.mark.parametrize(
    ("stem", "patch", "match"),
    [
        ("convolution", 12, "power of two"),
        ("convolution", 2, "power of two"),
        ("blur", 8, "stem 'blur'"),
        ("patch", 10, "multiples of the patch, 10"),
    ],
)
def test_stems_that_cannot_be_are_refused(stem, patch, match):
    with pytest.raises(ContractError, match=match):
        ImageEncoder({"a": (48, 48)}, 8, patch=patch, stem=stem)


def test_padding_changes_no_word():
    encoder = TextEncoder(20, 16, words=8, depth=2).eval()
    short, real = encoder(torch.tensor([[5, 7, 3]]))
    long, real_long = encoder(torch.tensor([[5, 7, 3, 0, 0]]))
    torch.testing.assert_close(long[:, :3], short, rtol=1e-5, atol=1e-6)
    assert (long[:, 3:] == 0).all()
    assert real.all()
    assert real_long.tolist() == [[True, True, True, False, False]]


def test_the_order_of_words_matters():
    encoder = TextEncoder(20, 16, words=8).eval()
    forth, back = encoder(torch.tensor([[5, 7]]))[0].mean(dim=1), encoder(torch.tensor([[7, 5]]))[0].mean(dim=1)
    assert (forth - back).abs().max() > 1e-3


def test_gradients_by_finite_differences():
    encoder = StateEncoder(3, 4, rows=2).double()
    assert torch.autograd.gradcheck(encoder, torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True))
    images = ImageEncoder({"a": (4, 8)}, 4, patch=4, stem="patch", depth=1, heads=2).double()
    image = torch.rand(1, 3, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda i: images({"a": i}), image)


def test_states_are_hidden_while_training_alone():
    encoder = StateEncoder(3, 4, hide=0.5)
    rows = torch.randn(2000, 1, 3)
    hidden = (encoder(rows) == encoder.unknown + encoder.positions).all(dim=-1).float().mean()
    assert 0.45 < hidden < 0.55  # 0.5 within four deviations, 4 * sqrt(0.25 / 2000)
    encoder.eval()
    torch.testing.assert_close(encoder(rows), encoder(rows), rtol=0.0, atol=0.0)
    assert not (encoder(rows) == encoder.unknown + encoder.positions).all(dim=-1).any()
    with pytest.raises(ContractError, match="fraction of hidden states is 1"):
        StateEncoder(3, 4, hide=1.0)


def test_sinusoids_by_hand():
    found = sinusoidal(torch.tensor([0.0, 2.0]), 4)  # frequencies 1 and 10000 ** -0.5
    expected = [[0.0, 0.0, 1.0, 1.0], [math.sin(2.0), math.sin(0.02), math.cos(2.0), math.cos(0.02)]]
    torch.testing.assert_close(found, torch.tensor(expected))
    with pytest.raises(ContractError, match="even width, got 5"):
        sinusoidal(torch.zeros(1), 5)


def test_the_mean_leaves_padding_out():
    values = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert mean_over_words(values, torch.tensor([[True, True, False]])).tolist() == [[2.0]]
