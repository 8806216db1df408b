"""Attention against PyTorch's own, and the order that a causal mask keeps."""

import pytest
import torch
from torch import nn

from vla_ros.errors import ContractError
from vla_ros.models.layers.attention import Attention, Block, CausalTransformer, causal_mask


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def reference(attention, width):
    """PyTorch's attention with the same weights."""
    twin = nn.MultiheadAttention(width, attention.heads, batch_first=True)
    with torch.no_grad():
        twin.in_proj_weight.copy_(torch.cat([attention.query.weight, attention.key_value.weight]))
        twin.in_proj_bias.copy_(torch.cat([attention.query.bias, attention.key_value.bias]))
        twin.out_proj.weight.copy_(attention.out.weight)
        twin.out_proj.bias.copy_(attention.out.bias)
    return twin


@pytest.mark.parametrize("look", [False, True])
def test_it_is_what_pytorch_computes(look):
    attention = Attention(12, 3)
    tokens, context = torch.randn(2, 4, 12), torch.randn(2, 5, 12)
    real = torch.tensor([[True] * 5, [True, True, True, False, False]])
    expected, weights = reference(attention, 12)(tokens, context, context, key_padding_mask=~real)
    found, looks = attention(tokens, context, real[:, None, None, :], look=look)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if look:
        torch.testing.assert_close(looks, weights, rtol=1e-5, atol=1e-6)
        assert (looks[1, :, 3:] == 0).all()
    else:
        assert looks is None


def test_gradients_by_finite_differences():
    block = Block(4, 2, cross=True, expansion=2).double()
    tokens = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    context = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    mask = causal_mask(3, 3, tokens.device)
    assert torch.autograd.gradcheck(lambda t, c: block(t, mask, c)[0], (tokens, context))


def test_the_mask_of_two_new_tokens_after_two():
    assert causal_mask(2, 4, torch.device("cpu")).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert causal_mask(3, 3, torch.device("cpu")).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("look", [False, True])
def test_a_later_token_changes_no_earlier_one(look):
    network = CausalTransformer(16, 4, 3).eval()
    tokens, real = torch.randn(1, 6, 16), torch.ones(1, 6, dtype=torch.bool)
    before, _ = network(tokens, real, look=look)
    for changed in range(6):
        other = tokens.clone()
        other[:, changed] = torch.randn(16)  # a shift of all numbers would be normalized away
        after, _ = network(other, real, look=look)
        difference = (after - before).abs().amax(dim=(0, 2))
        assert (difference[:changed] == 0).all()
        assert (difference[changed:] > 1e-4).all()


def test_a_cache_changes_nothing():
    network = CausalTransformer(16, 4, 2).eval()
    tokens, real = torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
    real[1, 2:4] = False
    whole, _ = network(tokens, real)
    cache = network.new_cache()
    parts = [network(tokens[:, a:b], real[:, :b], cache)[0] for a, b in ((0, 4), (4, 5), (5, 7))]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-6)


def test_padding_is_not_looked_at():
    network = CausalTransformer(16, 4, 2).eval()
    tokens, real = torch.randn(1, 5, 16), torch.tensor([[True, True, False, True, True]])
    other = tokens.clone()
    other[:, 2] = 5.0 * torch.randn(16)
    with torch.no_grad():
        (before, _), (after, weights) = network(tokens, real), network(other, real, look=True)
    torch.testing.assert_close(after[:, [0, 1, 3, 4]], before[:, [0, 1, 3, 4]], rtol=1e-5, atol=1e-6)
    assert weights is not None
    assert (weights[..., 2] == 0).all()


def test_width_and_heads_that_do_not_fit_are_refused():
    with pytest.raises(ContractError, match="width 10 is not a multiple of 4 heads"):
        Attention(10, 4)
