"""The compositional network learns tasks from few steps, and finds what it has only ever seen in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import rgb_to_hsv

from vla_ros.errors import ContractError
from vla_ros.models.build import build_model
from vla_ros.models.contract import ModelInput, ModelTarget
from vla_ros.models.layers.sentences import ACTS, COLOUR_COLUMNS
from vla_ros.models.networks.compositional import CompositionalModel

SIZE = (32, 48)
CONFIG = {
    "cameras": {"front": SIZE},
    "vocabulary": 20,
    "state_width": 10,
    "horizon": 4,
    "channels": 24,
    "hidden": 64,
    "colours": 3,
    "kinds": 3,
}
RGB = np.array([[0.9, 0.1, 0.1], [0.1, 0.7, 0.1], [0.1, 0.2, 0.9]], np.float32)
COLOUR_WORDS, KIND_WORDS, VERB, CRIMSON = (2, 3, 4), (5, 6, 9), 7, 8
UNSEEN = (0, 1)
"""Colour 0 and kind 1 are never shown together while training."""


def vectors() -> torch.Tensor:
    torch.manual_seed(9)
    table = torch.randn(20, 132)
    table[:, -COLOUR_COLUMNS:] = 0.0
    for word, rgb in (*zip(COLOUR_WORDS, RGB, strict=True), (CRIMSON, RGB[0] * 0.8)):
        table[word, -COLOUR_COLUMNS] = 1.0
        hue = 2.0 * np.pi * rgb_to_hsv(rgb)[0]
        table[word, -3:] = torch.tensor([np.cos(hue), np.sin(hue), rgb.max()])
    return table


def network() -> CompositionalModel:
    torch.manual_seed(0)
    built = build_model("compositional", CONFIG)
    built.set_word_vectors(vectors())
    return built


def scenes(rng: np.random.Generator, count: int, pairs: list[tuple[int, int]]) -> tuple[ModelInput, ModelTarget]:
    """Two things a picture, a square (kind 0), a cross (1) or a bar (2); a sentence about each."""
    images = np.full((count, 3, *SIZE), 0.6, np.float32)
    pixels = np.zeros((count, 2, 2), np.float32)
    chosen = np.zeros((count, 2, 2), np.int64)
    for scene in range(count):
        two = rng.choice(len(pairs), 2, replace=False)
        for place, index in enumerate(two):
            colour, kind = pairs[index]
            x, y = int(rng.integers(4, 18) + 22 * place), int(rng.integers(4, SIZE[0] - 5))
            arm = images[scene, :, y - 3 : y + 4, x - 3 : x + 4]
            mask = np.ones((7, 7), bool)
            if kind == 1:
                mask = np.zeros((7, 7), bool)
                mask[3, :] = mask[:, 3] = True
            elif kind == 2:
                mask[[0, 1, 5, 6]] = False
            arm[:, mask] = RGB[colour][:, None]
            pixels[scene, place] = (x + 0.5) / SIZE[1], (y + 0.5) / SIZE[0]
            chosen[scene, place] = colour, kind
    tokens = np.stack(
        [
            np.full((count, 2), VERB),
            np.array(COLOUR_WORDS)[chosen[..., 0]],
            np.array(KIND_WORDS)[chosen[..., 1]],
            np.zeros((count, 2), np.int64),
        ],
        axis=-1,
    )
    inputs = ModelInput({"front": torch.from_numpy(images)}, torch.zeros(count, 10), torch.from_numpy(tokens))
    place = torch.from_numpy(np.concatenate([pixels * 2 - 1, np.zeros((count, 2, 1), np.float32)], axis=-1))
    concepts = {
        "act": np.zeros((count, 2), np.int64),
        "colour": chosen[..., 0],
        "kind": chosen[..., 1],
        "goal_colour": np.full((count, 2), 3),
        "goal_kind": np.full((count, 2), 3),
    }
    target = ModelTarget(
        torch.nn.functional.pad(place[:, :, None].expand(-1, -1, 4, -1), (0, 3)),
        torch.ones(count, 2, 4, 1),
        torch.ones(count, 2),
        place,
        {"front": torch.from_numpy(pixels)},
        concepts={name: torch.from_numpy(np.asarray(values)) for name, values in concepts.items()},
    )
    return inputs, target


@pytest.fixture(scope="module")
def trained() -> CompositionalModel:
    torch.set_num_threads(1)
    model, rng = network().train(), np.random.default_rng(0)
    pairs = [(colour, kind) for colour in range(3) for kind in range(3) if (colour, kind) != UNSEEN]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    torch.manual_seed(1)
    for _ in range(250):
        loss, _ = model.compute_loss(*scenes(rng, 16, pairs))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def error(model: CompositionalModel, inputs: ModelInput, target: ModelTarget, sentence: int = 0) -> float:
    """Return the share of scenes in which the look is further than two cells from the named thing."""
    with torch.no_grad():
        look = model.predict(inputs).attention["front"][:, sentence]
    cell = look.flatten(1).argmax(dim=1)
    width = look.shape[-1]
    at = torch.stack([(cell % width + 0.5) / width, (cell // width + 0.5) / look.shape[-2]], dim=-1)
    away = (at - target.pixels["front"][:, sentence]).abs() * torch.tensor([SIZE[1], SIZE[0]])
    return float((away.amax(dim=-1) > 8.0).float().mean())


def unseen_scenes() -> tuple[ModelInput, ModelTarget]:
    """Scenes with the unseen pair and, as the other thing, one that shares its colour or its kind."""
    rng = np.random.default_rng(77)
    made = []
    for other in ((0, 0), (0, 2), (1, 1), (2, 1)):
        inputs, target = scenes(rng, 40, [UNSEEN, other])
        first = target.concepts["colour"][:, 0].eq(UNSEEN[0]) & target.concepts["kind"][:, 0].eq(UNSEEN[1])
        made.append((inputs, target, first))
    tokens = torch.cat([torch.where(f[:, None, None], g.tokens[:, :1], g.tokens[:, 1:]) for g, _, f in made])
    pixels = torch.cat(
        [torch.where(f[:, None, None], w.pixels["front"][:, :1], w.pixels["front"][:, 1:]) for _, w, f in made]
    )
    images = torch.cat([inputs.images["front"] for inputs, _, _ in made])
    base = made[0][1]
    return ModelInput({"front": images}, torch.zeros(len(images), 10), tokens), ModelTarget(
        base.continuous, base.binary, base.target_visible, None, {"front": pixels}
    )


def test_it_finds_what_it_was_taught(trained: CompositionalModel) -> None:
    pairs = [(colour, kind) for colour in range(3) for kind in range(3) if (colour, kind) != UNSEEN]
    assert error(trained, *scenes(np.random.default_rng(5), 100, pairs)) <= 0.05


def test_it_finds_a_pair_that_it_never_saw_together(trained: CompositionalModel) -> None:
    assert error(trained, *unseen_scenes()) <= 0.1


def test_a_colour_name_that_it_was_never_taught_means_the_nearest_colour(trained: CompositionalModel) -> None:
    sentence = torch.tensor([[[VERB, CRIMSON, KIND_WORDS[0], 0], [VERB, COLOUR_WORDS[0], KIND_WORDS[0], 0]]])
    crimson, red = trained.read(sentence)["colour"][0].detach().softmax(dim=-1)
    assert int(crimson.argmax()) == int(red.argmax()) == 0 and float(crimson[0]) > 0.6


def test_padding_says_nothing(trained: CompositionalModel) -> None:
    short = torch.tensor([[[VERB, COLOUR_WORDS[1], KIND_WORDS[1]]]])
    padded = torch.nn.functional.pad(short, (0, 6))
    for name, logits in trained.read(short).items():
        torch.testing.assert_close(trained.read(padded)[name], logits)


def test_words_are_described_and_never_trained(trained: CompositionalModel) -> None:
    assert torch.equal(trained.reader.vectors, vectors().half())
    with pytest.raises(ContractError, match="word vectors are"):
        trained.set_word_vectors(torch.zeros(3, 132))


def test_what_the_sentence_has_no_goal_for_does_not_depend_on_goals(trained: CompositionalModel) -> None:
    """The output of a sentence without a goal hardly changes when the goal's look does."""
    inputs, _ = scenes(np.random.default_rng(6), 4, [(0, 0), (1, 1)])
    with torch.no_grad():
        before = trained.predict(inputs).continuous
        keep = trained.reader.nobody.clone()
        trained.reader.nobody[2] -= 5.0  # somebody plays the goal's colour now
        after = trained.predict(inputs).continuous
        trained.reader.nobody.copy_(keep)
    assert float((after - before).abs().max()) < 0.05


def test_the_table_of_acts_is_the_one_that_is_taught() -> None:
    from vla_ros.language.commands import Act, Command
    from vla_ros.training.datasets.concepts import concept_classes

    assert concept_classes(Command(Act.PUSH, ("red", "cube"), None, "back"))[0] == ACTS.index("back")
    assert concept_classes(Command(Act.STACK, ("red", "cube"), ("blue", "disc"))) == (1, 0, 0, 2, 3)
    assert concept_classes(Command(Act.PICK, ("purple", "ball"))) == (0, 5, 1, 6, 6)


def test_a_word_of_an_unknown_sort_plays_the_role_of_its_place(trained: CompositionalModel) -> None:
    """Words 10 to 19 were never seen: each stands where a kind would, then where a colour would."""
    unknown = torch.arange(10, 20)
    for place, role in ((2, "kind"), (1, "colour")):
        tokens = torch.tensor([[VERB, COLOUR_WORDS[1], KIND_WORDS[1]]]).repeat(10, 1)
        tokens[:, place] = unknown
        with torch.no_grad():
            play = trained.reader._roles(tokens, trained.reader.vectors[tokens].float())[role]
        assert int((play.argmax(dim=1) == place).sum()) >= 9


def test_sorts_are_hidden_now_and_then_and_only_while_training() -> None:
    reader = network().reader
    seen: list[torch.Tensor] = []
    reader.sentence.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].data.detach()))
    tokens = torch.randint(2, 20, (400, 1, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        reader.hidden_sort[0] = 7.0
        for training in (True, False):
            reader.train(training)(tokens)
    hidden = [float((rows - reader.hidden_sort.softmax(0)).abs().amax(dim=1).lt(1e-6).float().mean()) for rows in seen]
    assert 0.2 < hidden[0] < 0.3 and hidden[1] == 0.0


def test_where_nothing_but_the_reader_is_trained_the_pictures_are_not_looked_at() -> None:
    model = network()
    inputs, target = scenes(np.random.default_rng(8), 4, [(0, 0), (1, 1)])
    model.eval()
    _, every = model.compute_loss(inputs, target)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith("reader."))
    seen: list[int] = []
    for eye in model.eyes.values():
        eye.register_forward_pre_hook(lambda module, inputs: seen.append(1))
    loss, parts = model.compute_loss(inputs, target)
    assert parts == {name: pytest.approx(every[name], rel=1e-5) for name in every if name.startswith("word_")}
    assert parts and not seen
    loss.backward()
    assert model.reader.kind.weight.grad is not None
    model.requires_grad_(False)  # a copy that measures: nothing is trained
    assert model.compute_loss(inputs, target)[1] == {name: pytest.approx(every[name], rel=1e-5) for name in every}
