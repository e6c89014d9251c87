"""`python -m tests.browser.shrink FROM TO`: the screenshots that pages show, as small files."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

WIDTH_PX = 1200
COLOURS = 160


def shrink(source: Path, target: Path) -> None:
    """A PNG of few colours and moderate width."""
    with Image.open(source) as picture:
        height = round(picture.height * WIDTH_PX / picture.width)
        small = picture.convert("RGB").resize((WIDTH_PX, height), Image.Resampling.LANCZOS)
    small.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    origin, folder = map(Path, sys.argv[1:])
    for shown in sorted(folder.glob("*.png")):
        shrink(origin / shown.name, shown)
