import pytest
import torch

from vla_ros.models.contract import ModelInput, ModelTarget

pytest.importorskip("transformers")

from vla_ros.models.networks.real_time import RealTimeModel

SMALL = {**RealTimeModel.tiny_config({"eye": (64, 64)}, 12, 4, 3), "hidden": 32}


def build(**changes):
    torch.manual_seed(0)
    return RealTimeModel.from_config({**SMALL, **changes}).eval()


def scene(seed=0, tokens=((3, 4, 0),)):
    generator = torch.Generator().manual_seed(seed)
    words = torch.tensor(tokens)[None]
    return ModelInput(
        {"eye": torch.rand(1, 3, 64, 64, generator=generator)}, torch.randn(1, 4, generator=generator), words
    )


def predict(network, inputs, cache=None):
    with torch.no_grad():
        return network.predict(inputs, cache).continuous


def test_words_are_read_once_an_instruction(monkeypatch):
    network = build()
    cache = network.new_cache()
    alone = [predict(network, scene(seed)) for seed in range(3)]
    for seed in range(3):
        assert torch.equal(predict(network, scene(seed), cache), alone[seed])
    assert cache.reads == 1
    other = scene(0, ((5, 6, 7),))
    assert torch.equal(predict(network, other, cache), predict(network, other))
    assert cache.reads == 2
    predict(network, scene(0), cache)  # the first instruction again is a new one too
    assert cache.reads == 3


def test_the_recurrent_state_is_carried_and_ends_with_the_instruction():
    network = build(recurrent=True)
    first, second = scene(0), scene(1)
    cache = network.new_cache()
    predict(network, first, cache)
    remembered = predict(network, second, cache)
    assert not torch.allclose(remembered, predict(network, second), atol=1e-6)
    other = scene(1, ((5, 6, 7),))
    assert torch.equal(predict(network, other, cache), predict(network, other))  # nothing is left of what came before
    again = network.new_cache()
    predict(network, first, again)
    assert torch.equal(predict(network, second, again), remembered)


def test_without_recurrence_no_state_is_kept():
    network = build()
    cache = network.new_cache()
    predict(network, scene(0), cache)
    assert cache.state is None


def test_two_caches_do_not_know_of_each_other():
    network = build(recurrent=True)
    mine, theirs = network.new_cache(), network.new_cache()
    predict(network, scene(0), mine)
    predict(network, scene(1), theirs)
    alone = network.new_cache()
    predict(network, scene(0), alone)
    assert torch.equal(predict(network, scene(2), mine), predict(network, scene(2), alone))


def test_sequences_teach_what_single_pictures_cannot():
    # The same last picture means 1 after one beginning and -1 after another.
    network = build(recurrent=True).train()

    def target_of(value):
        there, open_ = torch.ones(1, 1), torch.ones(1, 1, 3, 1)
        return ModelTarget(torch.full((1, 1, 3, 6), value), open_, there, torch.zeros(1, 1, 3))

    runs = [[(scene(s), target_of(v)), (scene(9), target_of(v))] for s, v in ((1, 1.0), (2, -1.0))]
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(60):
        loss = sum(network.compute_sequence_loss(run)[0] for run in runs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    for (begin, target), (end, _) in runs:
        cache = network.new_cache()
        predict(network, begin, cache)
        assert (predict(network, end, cache) - target.continuous).abs().mean() < 0.4
    with pytest.raises(ValueError, match="0 frames"):
        network.compute_sequence_loss([])


def test_no_attention_runs_in_the_hot_path(monkeypatch):
    network = build()
    assert not any("attention" in type(m).__name__.lower() for m in network.modules())
    called = []
    real = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: called.append(1) or real(*a, **k)
    )
    assert predict(network, scene()).shape == (1, 1, 3, 6)
    assert not called
