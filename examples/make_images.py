"""Paint the example pictures: seven scenes and two masks, the same at every run.

`python examples/make_images.py` writes them to `examples/images/`; names after it paint only those.
Pillow is all it needs.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from paint.balloons import balloons
from paint.boat import boat, boat_mask
from paint.fireflies import fireflies
from paint.lighthouse import lighthouse
from paint.portrait import portrait
from paint.tea import tea, tea_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

FOLDER = Path(__file__).parent / "images"
PICTURES: dict[str, Callable[[], Image.Image]] = {
    "portrait.jpg": portrait,
    "portrait_glasses.jpg": partial(portrait, with_glasses=True),
    "lighthouse.jpg": lighthouse,
    "boat.jpg": boat,
    "boat_mask.png": boat_mask,
    "balloons.jpg": balloons,
    "tea.jpg": tea,
    "tea_mask.png": tea_mask,
    "fireflies.jpg": fireflies,
}
QUALITY = 86


def save(image: Image.Image, path: Path) -> None:
    """Write a picture: JPEG for the scenes, PNG for the masks."""
    if path.suffix == ".png":
        image.convert("L").save(path, optimize=True)
    else:
        image.save(path, quality=QUALITY, optimize=True, progressive=True)


def main(names: list[str]) -> None:
    """Paint the named pictures, or all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or PICTURES:
        image = PICTURES[name]()
        save(image, FOLDER / name)
        print(f"{name}: {image.width}x{image.height}, {(FOLDER / name).stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
