"""Writes urdf/<robot>.urdf from urdf/<robot>.urdf.xacro: the bare description, which the core reads without xacro.

Run it after changing a xacro file; a test compares the two.

    python scripts/expand_descriptions.py
"""

from __future__ import annotations

from pathlib import Path

import xacro  # type: ignore[import-untyped]

FOLDER = Path(__file__).resolve().parent.parent / "urdf"


def expand(source: Path) -> str:
    """Return the description in `source` with no hardware chosen."""
    document = xacro.process_file(str(source))
    for node in list(document.childNodes):
        if node is not document.documentElement:
            document.removeChild(node)  # xacro's banner contains paths of this machine
    note = document.createComment(f" Written by scripts/expand_descriptions.py from {source.name}. ")
    document.insertBefore(note, document.documentElement)
    lines = document.toprettyxml(indent="  ").splitlines()
    return "\n".join(line for line in lines if line.strip()) + "\n"


def expansions() -> dict[Path, str]:
    """Return the expected content of each plain description."""
    return {source.with_suffix(""): expand(source) for source in sorted(FOLDER.glob("*.urdf.xacro"))}


if __name__ == "__main__":
    for path, text in expansions().items():
        path.write_text(text, encoding="utf-8")
        print(path)
