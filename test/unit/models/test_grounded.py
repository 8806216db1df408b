import dataclasses
import itertools

import pytest
import torch

from vla_ros.errors import ContractError, InstructionError
from vla_ros.models.contract import ModelInput, ModelTarget
from vla_ros.models.detection.detectors import Owlv2Detector, build_detector
from vla_ros.models.detection.identification import AMBIGUOUS, FOUND, NOT_THERE, SceneObject, decide
from vla_ros.models.networks.grounded import GroundedModel, assign

SMALL = {**GroundedModel.tiny_config({"eye": (32, 32)}, 9, 4, 3), "width": 32}
RED, BLUE, CUBE, PICK = 2, 3, 4, 5


def build(**changes):
    torch.manual_seed(0)
    return GroundedModel.from_config({**SMALL, **changes}).eval()


@pytest.fixture(scope="module")
def taught():
    """A network and the scenes that it knows: a red or a blue square somewhere, and the words for both."""
    torch.set_num_threads(1)
    network = build().train()
    images, places = torch.zeros(8, 3, 32, 32), torch.zeros(8, 2, 3)
    red = torch.tensor([1.0, 0.0] * 4)
    for scene in range(8):
        x, y = 4 * (scene % 4) + 6, 10 + 6 * (scene // 4)
        images[scene, 0 if red[scene] else 2, y : y + 6, x : x + 6] = 1.0
        places[scene, :] = torch.tensor([x / 16.0 - 0.75, y / 16.0 - 0.8, 0.0])
    tokens = torch.tensor([[PICK, RED, CUBE, 0], [PICK, BLUE, CUBE, 0]]).expand(8, -1, -1).contiguous()
    inputs = ModelInput({"eye": images}, torch.zeros(8, 4), tokens)
    visible = torch.stack([red, 1.0 - red], dim=1)
    target = ModelTarget(
        places[:, :, None].expand(-1, -1, 3, -1).repeat(1, 1, 1, 2),
        torch.ones(8, 2, 3, 1),
        visible,
        places,
        {"eye": (places[..., :2] + 1.0) / 2.0},
    )
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(200):
        loss, _ = network.compute_loss(inputs, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval(), inputs, target


def detect(network, inputs):
    with torch.no_grad():
        return network.detect(inputs.images)


def test_it_finds_the_thing_and_tells_what_is_not_there(taught):
    network, inputs, target = taught
    found = detect(network, inputs)
    for scene, things in enumerate(found):
        assert len(things) == 1, f"{len(things)} things in scene {scene}"
        assert (things[0].place - target.target[scene, 0]).norm() < 0.3
        assert (things[0].pixels["eye"] - target.pixels["eye"][scene, 0]).norm() < 0.15
        for sentence in range(2):
            answer = network.identify_target_object(inputs.tokens[scene, sentence], things)
            there = bool(target.target_visible[scene, sentence])
            assert answer.answer == (FOUND if there else NOT_THERE)
            assert answer.index == (0 if there else None)


def test_of_a_red_and_a_blue_thing_the_named_one_is_meant(taught):
    network, inputs, _ = taught
    red, blue = detect(network, inputs)[0][0], detect(network, inputs)[1][0]
    for things, index in (((red, blue), 0), ((blue, red), 1)):
        assert network.identify_target_object(inputs.tokens[0, 0], things).index == index
        assert network.identify_target_object(inputs.tokens[0, 1], things).index == 1 - index


def test_two_things_that_are_alike_are_asked_about(taught):
    network, inputs, _ = taught
    red = detect(network, inputs)[0][0]
    twin = dataclasses.replace(red, place=red.place + 1.0)
    blue = detect(network, inputs)[1][0]
    answer = network.identify_target_object(inputs.tokens[0, 0], [red, blue, twin])
    assert answer.answer == AMBIGUOUS
    assert sorted(answer.candidates) == [0, 2]
    assert answer.probabilities[0] == pytest.approx(answer.probabilities[2])
    named = [dataclasses.replace(t, name=n) for t, n in ((red, "left cube"), (blue, "blue cube"), (twin, "right cube"))]
    assert answer.sentence(named) in (
        "Which of the two: left cube or right cube?",
        "Which of the two: right cube or left cube?",
    )


def test_without_things_nothing_is_there(taught):
    network, inputs, _ = taught
    answer = network.identify_target_object(inputs.tokens[0, 0], [])
    assert answer.answer == NOT_THERE
    assert answer.sentence([]) == "It is not there."


def test_match_says_what_act_believes(taught):
    network, inputs, target = taught
    with torch.no_grad():
        matching, output = network.match(inputs), network.predict(inputs)
    assert torch.allclose(matching.probabilities.sum(dim=-1), torch.ones(8, 2), atol=1e-6)
    assert torch.allclose(1.0 - matching.probabilities[..., -1], output.target_visible.sigmoid(), atol=1e-5)
    assert ((output.target_visible > 0) == target.target_visible.bool()).all()


def test_a_command_without_words_is_refused(taught):
    network, inputs, _ = taught
    things = detect(network, inputs)[0]
    for command in (torch.zeros(4, dtype=torch.long), inputs.tokens[0]):
        with pytest.raises(InstructionError, match="expected"):
            network.identify_target_object(command, things)
    with pytest.raises(ValueError, match="expected 32"):
        network.identify_target_object(inputs.tokens[0, 0], [SceneObject(torch.zeros(7), torch.zeros(3))])


@pytest.mark.parametrize(
    ("scores", "none", "answer", "candidates"),
    [
        ([4.0, 0.0], 0.0, FOUND, (0,)),
        ([0.0, 4.0], 0.0, FOUND, (1,)),
        ([0.0, 0.0], 4.0, NOT_THERE, ()),
        ([4.0, 3.8, 0.0], 0.0, AMBIGUOUS, (0, 1)),
        ([3.8, 0.0, 4.0, 3.7], 0.0, AMBIGUOUS, (2, 0, 3)),
        # two that are equally likely, together likelier than "none of them", which alone is likelier than each
        ([1.0, 1.0], 1.5, AMBIGUOUS, (0, 1)),
        ([1.0], 1.5, NOT_THERE, ()),
    ],
)
def test_decisions_by_hand(scores, none, answer, candidates):
    decision = decide(torch.tensor(scores), none, margin=0.7)
    assert decision.answer == answer
    assert decision.candidates == candidates
    assert sum(decision.probabilities) == pytest.approx(1.0)


def test_each_thing_gets_a_slot_of_its_own():
    torch.manual_seed(0)
    places, target = torch.randn(6, 5, 3), torch.randn(6, 3, 3)
    visible = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]] * 2)
    slots = assign(places, target, visible, torch.zeros(6, 5))
    for scene in range(6):
        named = [n for n in range(3) if visible[scene, n]]
        mine = [int(slots[scene, n]) for n in named]
        assert len(set(mine)) == len(named)
        # greedy by hand
        pairs = sorted(
            itertools.product(named, range(5)), key=lambda p: (target[scene, p[0]] - places[scene, p[1]]).norm()
        )
        taken = {}
        for thing, slot in pairs:
            if thing not in taken and slot not in taken.values():
                taken[thing] = slot
        assert mine == [taken[n] for n in named]
    with pytest.raises(ValueError, match="3 things in a scene, expected at most 2"):
        assign(places[:, :2], target, visible, torch.zeros(6, 2))


def test_unknown_detectors_are_refused():
    with pytest.raises(ContractError, match="detector 'yolo', expected one of own, owlv2"):
        build(detector="yolo")
    with pytest.raises(ContractError, match="objects is 0"):
        build(objects=0)
    network = build()
    inputs = ModelInput({"eye": torch.rand(1, 3, 32, 32)}, torch.zeros(1, 4), torch.tensor([[[RED]]]))
    with pytest.raises(ValueError, match="`target` is missing"):
        network.compute_loss(inputs, ModelTarget(torch.zeros(1, 1, 3, 6), torch.zeros(1, 1, 3, 1), torch.ones(1, 1)))


TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
WORDS = {"vocab_size": 30, "max_position_embeddings": 6, "eos_token_id": 29, "bos_token_id": 28}
VALUES = {
    "vision_config": {**TOWER, "image_size": 64, "patch_size": 16},
    "projection_dim": 16,
    "text_config": {**TOWER, **WORDS},
}


class TestOwlv2:
    @pytest.fixture(autouse=True)
    def _needed(self):
        pytest.importorskip("transformers")

    def detector(self):
        torch.manual_seed(0)
        return build_detector(
            "owlv2", {"eye": (48, 64)}, objects=4, width=32, heads=2, patch=16, depth=1, values=VALUES
        ).eval()

    def test_as_the_front_of_the_network(self):
        found = self.detector()({"eye": torch.rand(2, 3, 48, 64)})
        assert found.features.shape == (2, 4, 32)
        assert found.places.shape == (2, 4, 3)
        assert found.points["eye"].shape == (2, 4, 2)
        assert (found.confidence[:, :-1] >= found.confidence[:, 1:]).all()  # the most likely first
        values = {
            **SMALL,
            "cameras": {"eye": (48, 64)},
            "detector": "owlv2",
            "detector_values": VALUES,
            "objects": 4,
        }
        network = GroundedModel.from_config(values).eval()
        inputs = ModelInput({"eye": torch.rand(2, 3, 48, 64)}, torch.zeros(2, 4), torch.tensor([[[RED, CUBE]]] * 2))
        assert network.predict(inputs).continuous.shape == (2, 1, 3, 6)

    def test_names_are_found_as_transformers_finds_them(self):
        detector: Owlv2Detector = self.detector()
        image, names = torch.rand(1, 3, 64, 64), torch.tensor([[28, 5, 6, 29], [28, 7, 29, 0]])
        boxes = detector.find(image, names, least=0.0)[0]
        theirs = detector.owl(input_ids=names, attention_mask=(names != 0).long(), pixel_values=detector._square(image))
        assert len(boxes) == 16
        best = theirs.logits[0].sigmoid().max(dim=-1)
        order = best.values.argsort(descending=True)
        assert [b.score for b in boxes] == pytest.approx(best.values[order].tolist())
        assert [b.name for b in boxes] == best.indices[order].tolist()
        x, y, w, h = theirs.pred_boxes[0, order[0]].tolist()
        corners = [min(max(v, 0.0), 1.0) for v in (x - w / 2, y - h / 2, x + w / 2, y + h / 2)]
        assert boxes[0].corners == pytest.approx(corners, abs=1e-6)
        assert detector.find(image, names, least=1.1) == [[]]

    def test_places_in_a_wide_picture_are_those_of_the_picture(self, monkeypatch):
        detector = self.detector()
        assert detector._stretch(torch.zeros(1, 3, 48, 64)).tolist() == pytest.approx([1.0, 64 / 48])
        middle = torch.tensor([0.5, 24 / 64, 0.1, 0.1])  # of the picture, which fills three quarters of the square
        monkeypatch.setattr(detector.owl, "box_predictor", lambda seen, grid: middle.expand(*seen.shape[:2], 4))
        points = detector({"eye": torch.rand(1, 3, 48, 64)}).points["eye"]
        assert torch.allclose(points, torch.full((1, 4, 2), 0.5))
        square = detector._square(torch.ones(1, 3, 48, 64))
        assert square.shape == (1, 3, 64, 64)
        assert (square[..., :47, :] - square[..., :1, :1]).abs().max() < 1e-5  # the picture stays above
        assert (square[..., 50:, :] - square[..., :1, :1]).abs().min() > 0.1  # the padding is below
