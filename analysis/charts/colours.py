"""The colours of pictures on a page: Okabe and Ito's, darker on light paper and lighter on dark paper.

Each has a contrast of 3:1 or more to its paper, and any two of a picture's curves are told apart by readers with any
form of colour blindness. Marks and curves differ in shape, too.

Source: Okabe and Ito, Color Universal Design, 2008.
"""

from __future__ import annotations

LIGHT_PAPER, DARK_PAPER = "#ffffff", "#16181b"
# what matplotlib draws -> the name of the page's variable, on light paper, on dark paper
PAGE_COLOURS = {
    "#0072B2": ("--blue", "#00528f", "#3d9be0"),
    "#E69F00": ("--orange", "#bf7f00", "#f0b400"),
    "#009E73": ("--green", "#00916a", "#00b98a"),
    "#CC79A7": ("--purple", "#cc5f9e", "#d98cb8"),
    "#56B4E9": ("--sky", "#3593d1", "#9ad6f7"),
    "#D55E00": ("--vermilion", "#a63a00", "#eb6424"),
    "#8C8C8C": ("--left-out", "#767676", "#9a9a9a"),
    "#A8A8A8": ("--path", "#8a8a8a", "#9a9a9a"),
    "#9CC7E0": ("--seed", "#4a8db3", "#9cc7e0"),
}


def variables(dark: bool) -> str:
    """Return the variables of a page's style, on dark or on light paper."""
    return "; ".join(f"{name}: {on_dark if dark else on_light}" for name, on_light, on_dark in PAGE_COLOURS.values())
