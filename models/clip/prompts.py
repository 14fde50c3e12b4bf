"""Templates that turn a class name into a text; "{}" is replaced by the name.

An ensemble of templates is averaged in embedding space (`models.clip.text`).
Ding et al., "Decoupling Zero-Shot Semantic Segmentation", CVPR 2022.
"""

from __future__ import annotations

from data.errors import VocabularyError

SINGLE = ("A photo of a {} in the scene",)

IMAGENET_SELECT = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    *SINGLE,
)

# For CLIP's view of masked crops, which ZegFormer always scores with this set.
CROPS = (
    "a bad photo of the {}.",
    "a photo of the large {}.",
    "a photo of the small {}.",
    "a cropped photo of a {}.",
    *(
        f"This is a {photo} of a {size}{{}}"
        for photo in ("photo", "masked photo", "cropped photo")
        for size in ("", "small ", "medium ", "large ")
    ),
    *SINGLE,
    "a bad photo of the {} in the scene",
    "a photo of the large {} in the scene",
    "a photo of the small {} in the scene",
    "a cropped photo of a {} in the scene",
    "a photo of a masked {} in the scene",
    *(
        f"{start} {masked}{{}} in the scene"
        for start in ("There is a", "There is the", "This is a", "This is the", "This is one")
        for masked in ("", "masked ")
    ),
)


def templates(name: str) -> tuple[str, ...]:
    """A set of templates by the name that PROMPT_ENSEMBLE_TYPE gives it.

    Parameters
    ----------
    name : "none" (the bare class name), "single", "imagenet_select" (8), "imagenet" (the 80 that
        OpenAI published for ImageNet) or "crops" (32)

    Raises
    ------
    VocabularyError
        Another name; lists the known ones.
    """
    sets = {"none": ("{}",), "single": SINGLE, "imagenet_select": IMAGENET_SELECT, "crops": CROPS}
    if name == "imagenet":
        from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    if name not in sets:
        raise VocabularyError(
            f"prompts {name!r} are not known; choose {', '.join(sets)} or imagenet"
        )
    return sets[name]
