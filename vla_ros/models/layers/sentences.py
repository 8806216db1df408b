"""Parses an instruction into its parts, so that no part depends on the combination in which it was trained.

A GRU assigns the roles (the object's color, the goal's kind, ...). Of each word it sees only the sort: a color, a kind
of object, a direction, or one of a few sorts of other words; not *which* color. In training even the sort is masked at
random, so that the position in the instruction has to suffice. A role's meaning is that of the words that play it, each
classified on its own: if this is a color, which one. So "red" next to "cube" is red although the two were never seen
together, an untrained word means the same as trained words near it, and the verb does not matter at all: a second
object means to carry, a direction means to push, neither means to pick up.

Words are represented by fixed vectors that are never trained; see `vla_ros.training.datasets.word_vectors`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_ros.errors import ContractError

DIRECTIONS = ("left", "right", "forward", "back")
ACTS = ("pick", "carry", *DIRECTIONS)
"""Possible acts; a push is named by its direction."""

COLOUR_COLUMNS = 4
"""Number of color columns at the end of a word vector: 1 for a color word; cosine and sine of its hue; brightness."""

ROLES = ("colour", "kind", "goal_colour", "goal_kind", "direction")

OTHER_SORTS = 6
"""Number of word sorts besides colors, kinds and directions."""

WORD_NOISE = 0.2
"""Standard deviation of noise on word vectors in training."""

WORD_DROPOUT = 0.8
"""Fraction of color words whose non-color features are dropped in training: the hue identifies them."""

HUE_NOISE, SHADE_NOISE = 0.15, 0.1
"""Standard deviations of noise on hue, rad, and on brightness in training."""

HIDDEN_SORTS = 0.25
"""Fraction of words whose sort is masked in training."""

EPSILON = 1e-6


class InstructionParser(nn.Module):
    """Instruction parser, see the module; word vectors are random until `set_word_vectors`."""

    vectors: Tensor

    def __init__(
        self, vocabulary: int, width: int, colours: int, kinds: int, hidden: int = 64, memory: int = 32
    ) -> None:
        """Build for word vectors of `width`."""
        super().__init__()
        vectors = torch.randn(vocabulary, width)
        vectors[:, -COLOUR_COLUMNS:] = 0.0  # no word is a color word until the vectors are set
        self.register_buffer("vectors", vectors.half())
        # Linear: a word between trained ones gets the nearest class, and few words cannot train more than that.
        self.colour = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, colours))
        # Separate classifiers for objects and goals: the sets of possible objects and goals differ.
        self.kind, self.goal_kind = nn.Linear(width, kinds), nn.Linear(width, kinds)
        self.direction = nn.Linear(width, len(DIRECTIONS))
        sorts = 3 + OTHER_SORTS
        self.sort = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, sorts))
        self.hidden_sort = nn.Parameter(torch.zeros(sorts))
        self.sentence = nn.GRU(sorts, memory, batch_first=True, bidirectional=True)
        self.role = nn.Linear(2 * memory, len(ROLES))
        self.nobody = nn.Parameter(torch.zeros(len(ROLES)))
        # Few words train these; from random weights, untrained words would be classified at random.
        for linear in (self.kind, self.goal_kind, self.direction):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def set_word_vectors(self, vectors: Tensor) -> None:
        """Set the vectors of all tokens, (vocabulary, width).

        Raises:
            ContractError: when the shape differs.
        """
        if vectors.shape != self.vectors.shape:
            raise ContractError(f"word vectors are {tuple(vectors.shape)}, expected {tuple(self.vectors.shape)}")
        self.vectors.copy_(vectors)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Return log probabilities (B, N, classes) of every concept for instructions (B, N, T).

        `act` as in `ACTS`, `colour` and `kind` of the object, `goal_colour` and `goal_kind` with a last class: no goal.
        """
        scenes, sentences, length = tokens.shape
        flat = tokens.reshape(-1, length)
        words = self._described(flat)
        colour = self.colour(_by_hue(words)).softmax(dim=-1)
        kind, goal_kind = self.kind(words).softmax(dim=-1), self.goal_kind(words).softmax(dim=-1)
        play = self._roles(flat, words)
        meaning = {
            "colour": _normalized(_meant(play["colour"], colour)[..., :-1]),  # there is always an object
            "kind": _normalized(_meant(play["kind"], kind)[..., :-1]),
            "goal_colour": _meant(play["goal_colour"], colour),
            "goal_kind": _meant(play["goal_kind"], goal_kind),
        }
        way = _meant(play["direction"], self.direction(words).softmax(dim=-1))
        alone = meaning["goal_kind"][..., -1:]
        meaning["act"] = torch.cat([alone * way[..., -1:], 1.0 - alone, alone * way[..., :-1]], dim=-1)
        return {name: values.clamp(min=EPSILON).log().view(scenes, sentences, -1) for name, values in meaning.items()}

    def _roles(self, flat: Tensor, words: Tensor) -> dict[str, Tensor]:
        """Return for each role (M, T + 1): the probability that each word, or none (the last), plays it."""
        real = (flat != 0)[..., None]
        sorts = self.sort(_as_sort(words)).softmax(dim=-1)
        if self.training:
            hidden = torch.rand_like(sorts[..., :1]) < HIDDEN_SORTS
            sorts = torch.where(hidden, self.hidden_sort.softmax(dim=-1), sorts)
        states = self._run_gru(sorts * real, (flat != 0).sum(dim=1))
        scores = self.role(states).masked_fill(~real, float("-inf"))
        nobody = self.nobody.to(scores.dtype).expand(len(flat), 1, -1)
        play = torch.cat([scores, nobody], dim=1).softmax(dim=1)
        return {role: play[..., column] for column, role in enumerate(ROLES)}

    def _run_gru(self, sorts: Tensor, lengths: Tensor) -> Tensor:
        """Run the GRU over word sorts (M, T, sorts) of the given `lengths`; return its states (M, T, 2 * memory)."""
        if lengths.is_meta:  # the shapes are the same
            states: Tensor = self.sentence(sorts)[0]
            return states
        # Instructions are padded at the end, where a backward GRU would begin: pack them.
        packed = nn.utils.rnn.pack_padded_sequence(sorts, lengths.cpu(), batch_first=True, enforce_sorted=False)
        output = self.sentence(packed)[0]
        return nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=sorts.shape[1])[0]

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
    """Return (M, classes + 1): the classes (M, T, classes) of the words that play a role, and the mass of "no word"."""
    found = (play[:, None, :-1] @ classes)[:, 0]
    return torch.cat([found, play[:, -1:]], dim=-1)


def _by_hue(words: Tensor) -> Tensor:
    """Drop the non-color features of color words: the hue identifies them."""
    named = words[..., -COLOUR_COLUMNS : 1 - COLOUR_COLUMNS]
    return torch.cat([words[..., :-COLOUR_COLUMNS] * (1.0 - named), words[..., -COLOUR_COLUMNS:]], dim=-1)


def _as_sort(words: Tensor) -> Tensor:
    """Drop everything from color words except that they are colors, so that all colors have the same sort."""
    named = words[..., -COLOUR_COLUMNS : 1 - COLOUR_COLUMNS]
    which = torch.zeros_like(words[..., 1 - COLOUR_COLUMNS :])
    return torch.cat([words[..., :-COLOUR_COLUMNS] * (1.0 - named), named, which], dim=-1)


def _normalized(values: Tensor) -> Tensor:
    return values / values.sum(dim=-1, keepdim=True).clamp(min=EPSILON)
