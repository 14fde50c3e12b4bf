"""Sets of prompt templates by name. `{}` stands for the class name.

The embedding of a class is a mean over its prompts and synonyms, so their order does not matter.
"""

from __future__ import annotations

_SINGLE = "A photo of a {} in the scene"

_SELECT = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    _SINGLE,
)

# As used by ViLD, and by ZegFormer for the classes it compares with pictures.
_VILD = (
    "a bad photo of the {}.",
    "a photo of the large {}.",
    "a photo of the small {}.",
    "a cropped photo of a {}.",
    *(
        f"This is a {kind}photo of a {size}{{}}"
        for kind in ("", "masked ", "cropped ")
        for size in ("", "small ", "medium ", "large ")
    ),
    _SINGLE,
    "a bad photo of the {} in the scene",
    "a photo of the large {} in the scene",
    "a photo of the small {} in the scene",
    "a cropped photo of a {} in the scene",
    "a photo of a masked {} in the scene",
    *(
        f"{opening} {masked}{{}} in the scene"
        for opening in ("There is a", "There is the", "This is a", "This is the", "This is one")
        for masked in ("", "masked ")
    ),
)

_SETS = {"none": ("{}",), "single": (_SINGLE,), "imagenet_select": _SELECT, "vild": _VILD}

NAMES = (*_SETS, "imagenet")


def templates(name: str) -> tuple[str, ...]:
    """Templates of a set: "none" (the bare name), "single", "imagenet_select" (8), "vild" (32), or
    "imagenet" (the 80 of OpenAI's CLIP, taken from open_clip).

    Raises
    ------
    ValueError
        There is no such set.
    """
    if name == "imagenet":
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    if name not in _SETS:
        raise ValueError(f"prompts: expected one of {', '.join(NAMES)}, found {name!r}")
    return _SETS[name]
