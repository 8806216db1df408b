"""Reads a sentence about things as its parts, so that no part depends on which others it was seen with.

Who plays which role (the thing's colour, the goal's kind, ...) is told by a GRU that knows of each word only its sort:
a colour, a kind of thing, a direction, or one of a few sorts of other words; not *which* colour. Now and then even the
sort is hidden while training, so that the place in the sentence has to do. A role's meaning is that of the words that
play it, each read by itself: if this is a colour, which one. So "red" next to "cube" is red although the two were never
seen together, a word that was never taught means what the taught ones mean that lie near it, and a verb does not matter
at all: a second thing means to carry, a direction means to push, neither means to pick up.

Words come as vectors that are never trained; see `vla_ros.training.word_vectors`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_ros.errors import ContractError

DIRECTIONS = ("left", "right", "forward", "back")
ACTS = ("pick", "carry", *DIRECTIONS)
"""What can be asked for; a push is named by its direction."""

COLOUR_COLUMNS = 4
"""Last columns of a word vector: 1 where the word names a colour; cosine and sine of its hue; its brightness."""

ROLES = ("colour", "kind", "goal_colour", "goal_kind", "direction")

OTHER_SORTS = 6
"""Sorts of words beside colours, kinds and directions."""

WORD_NOISE = 0.2
"""Standard deviation of the noise on word vectors while training."""

WORD_DROPOUT = 0.8
"""Share of colour names whose other description is left out while training: their hue says that they are one."""

HUE_NOISE, SHADE_NOISE = 0.15, 0.1
"""Standard deviations of what is added to a hue, rad, and to a brightness while training."""

HIDDEN_SORTS = 0.25
"""Share of words whose sort is hidden while training."""

SMALLEST = 1e-6


class SentenceReader(nn.Module):
    """See the module; word vectors are random until `set_word_vectors`."""

    vectors: Tensor

    def __init__(
        self, vocabulary: int, width: int, colours: int, kinds: int, hidden: int = 64, memory: int = 32
    ) -> None:
        """Build for words described by `width` numbers."""
        super().__init__()
        vectors = torch.randn(vocabulary, width)
        vectors[:, -COLOUR_COLUMNS:] = 0.0  # no word names a colour, until it is known which do
        self.register_buffer("vectors", vectors.half())
        # Linear: a word between taught ones is classed as the nearest, and few words teach no more than that.
        self.colour = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, colours))
        # One reader for things and one for goals: what can be a goal is not what can be picked up.
        self.kind, self.goal_kind = nn.Linear(width, kinds), nn.Linear(width, kinds)
        self.direction = nn.Linear(width, len(DIRECTIONS))
        sorts = 3 + OTHER_SORTS
        self.sort = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, sorts))
        self.hidden_sort = nn.Parameter(torch.zeros(sorts))
        self.sentence = nn.GRU(sorts, memory, batch_first=True, bidirectional=True)
        self.role = nn.Linear(2 * memory, len(ROLES))
        self.nobody = nn.Parameter(torch.zeros(len(ROLES)))
        # Few words teach these; from random weights, those that were not taught would be read by chance.
        for linear in (self.kind, self.goal_kind, self.direction):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def set_word_vectors(self, vectors: Tensor) -> None:
        """Take the description of every token, (vocabulary, width).

        Raises:
            ContractError: when the shape is another.
        """
        if vectors.shape != self.vectors.shape:
            raise ContractError(f"word vectors are {tuple(vectors.shape)}, expected {tuple(self.vectors.shape)}")
        self.vectors.copy_(vectors)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Return log probabilities (B, N, classes) of every concept for sentences (B, N, T).

        `act` as in `ACTS`, `colour` and `kind` of the thing, `goal_colour` and `goal_kind` with a last class: no goal.
        """
        scenes, sentences, length = tokens.shape
        flat = tokens.reshape(-1, length)
        words = self._described(flat)
        colour = self.colour(_by_hue(words)).softmax(dim=-1)
        kind, goal_kind = self.kind(words).softmax(dim=-1), self.goal_kind(words).softmax(dim=-1)
        play = self._roles(flat, words)
        meaning = {
            "colour": _shares(_meant(play["colour"], colour)[..., :-1]),  # the thing is always there
            "kind": _shares(_meant(play["kind"], kind)[..., :-1]),
            "goal_colour": _meant(play["goal_colour"], colour),
            "goal_kind": _meant(play["goal_kind"], goal_kind),
        }
        way = _meant(play["direction"], self.direction(words).softmax(dim=-1))
        alone = meaning["goal_kind"][..., -1:]
        meaning["act"] = torch.cat([alone * way[..., -1:], 1.0 - alone, alone * way[..., :-1]], dim=-1)
        return {name: values.clamp(min=SMALLEST).log().view(scenes, sentences, -1) for name, values in meaning.items()}

    def _roles(self, flat: Tensor, words: Tensor) -> dict[str, Tensor]:
        """Return for each role (M, T + 1): how much each word, or nobody (the last), plays it."""
        real = (flat != 0)[..., None]
        sorts = self.sort(_as_sort(words)).softmax(dim=-1)
        if self.training:
            hidden = torch.rand_like(sorts[..., :1]) < HIDDEN_SORTS
            sorts = torch.where(hidden, self.hidden_sort.softmax(dim=-1), sorts)
        states = self._read(sorts * real, (flat != 0).sum(dim=1))
        scores = self.role(states).masked_fill(~real, float("-inf"))
        nobody = self.nobody.to(scores.dtype).expand(len(flat), 1, -1)
        play = torch.cat([scores, nobody], dim=1).softmax(dim=1)
        return {role: play[..., column] for column, role in enumerate(ROLES)}

    def _read(self, sorts: Tensor, lengths: Tensor) -> Tensor:
        """Return the states (M, T, 2 * memory) of the GRU over sorts of words (M, T, sorts) of so many words each."""
        if lengths.is_meta:  # the shapes are the same
            return self.sentence(sorts)[0]
        # Sentences are padded at the end, and a GRU that reads backwards would begin there: pack them.
        packed = nn.utils.rnn.pack_padded_sequence(sorts, lengths.cpu(), batch_first=True, enforce_sorted=False)
        said = self.sentence(packed)[0]
        return nn.utils.rnn.pad_packed_sequence(said, batch_first=True, total_length=sorts.shape[1])[0]

    def _described(self, flat: Tensor) -> Tensor:
        words = self.vectors[flat].to(self.role.weight.dtype)
        if not self.training:
            return words
        meaning, colour = words[..., :-COLOUR_COLUMNS], words[..., -COLOUR_COLUMNS:]
        named = colour[..., :1]
        dropped = named * (torch.rand_like(named) < WORD_DROPOUT)
        meaning = (meaning + WORD_NOISE * torch.randn_like(meaning)) * (1.0 - dropped)
        turn = HUE_NOISE * torch.randn_like(named)
        cosine, sine = colour[..., 1:2], colour[..., 2:3]
        hue = [cosine * turn.cos() - sine * turn.sin(), sine * turn.cos() + cosine * turn.sin()]
        shade = colour[..., 3:] + SHADE_NOISE * torch.randn_like(named) * named
        return torch.cat([meaning, named, *hue, shade], dim=-1)


def _meant(play: Tensor, classes: Tensor) -> Tensor:
    """Return (M, classes + 1): the classes (M, T, classes) of the words that play a role, and how much nobody does."""
    found = (play[:, None, :-1] @ classes)[:, 0]
    return torch.cat([found, play[:, -1:]], dim=-1)


def _by_hue(words: Tensor) -> Tensor:
    """Return the words without other descriptions of those that name a colour: the hue says which."""
    named = words[..., -COLOUR_COLUMNS : 1 - COLOUR_COLUMNS]
    return torch.cat([words[..., :-COLOUR_COLUMNS] * (1.0 - named), words[..., -COLOUR_COLUMNS:]], dim=-1)


def _as_sort(words: Tensor) -> Tensor:
    """Return the words with nothing of a colour but that it is one, so that every colour is of the same sort."""
    named = words[..., -COLOUR_COLUMNS : 1 - COLOUR_COLUMNS]
    which = torch.zeros_like(words[..., 1 - COLOUR_COLUMNS :])
    return torch.cat([words[..., :-COLOUR_COLUMNS] * (1.0 - named), named, which], dim=-1)


def _shares(values: Tensor) -> Tensor:
    return values / values.sum(dim=-1, keepdim=True).clamp(min=SMALLEST)
