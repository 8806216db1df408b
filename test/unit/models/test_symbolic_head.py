"""A head that learns, is saved, and refuses what it cannot read."""

import pytest
import torch

from vla_ros.actions.vocabulary import SymbolicVocabulary
from vla_ros.models.networks.symbolic_head import SymbolicHead

NAMES = ("navigate_to", "pick_up", "place_at", "open", "close")


@pytest.fixture
def head():
    torch.manual_seed(0)
    return SymbolicHead(8, SymbolicVocabulary(NAMES))


def test_it_learns_one_action_a_feature(head):
    features, tokens = torch.eye(8)[:5], torch.arange(5)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
    before = head.compute_loss(features, tokens).item()
    for _ in range(60):
        loss = head.compute_loss(features, tokens)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05 < before
    assert head.choose(features) == list(NAMES)


def test_two_calls_agree_and_weights_are_saved(head):
    features = torch.randn(3, 8)
    assert head(features).equal(head(features))
    torch.manual_seed(1)
    other = SymbolicHead(8, SymbolicVocabulary(NAMES))
    assert not other(features).equal(head(features))
    other.load_state_dict(head.state_dict())
    assert other(features).equal(head(features))
    assert {name for name, _ in head.named_parameters()} >= {"logits.weight", "logits.bias"}


def test_the_default_vocabulary_is_the_house_s(head):
    assert SymbolicHead(4).logits.out_features == len(SymbolicVocabulary())


def test_what_does_not_fit_is_refused(head):
    with pytest.raises(ValueError, match=r"features has shape \(2, 7\), expected 8"):
        head(torch.zeros(2, 7))
    with pytest.raises(ValueError, match=r"\(2, 8\) and tokens \(3,\) do not fit"):
        head.compute_loss(torch.zeros(2, 8), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="expected 0 to 4"):
        head.compute_loss(torch.zeros(1, 8), torch.tensor([5]))
