"""Public functions for objects, and for joint eigenvectors of several images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import eigen.joint
import eigen.objects.find
from data.arguments import check_type, described
from data.errors import SettingError
from data.images import as_image
from eigen.extractors import Extractor
from eigen.joint import JointEigenpairs
from eigen.objects import ImageObject, ObjectSpec
from eigen.pairs import Eigenpairs
from eigenshape.functions import the_extractor

if TYPE_CHECKING:
    from data.images import ImageLike


def objects(
    image: ImageLike,
    extractor: Extractor | str,
    spec: ObjectSpec | None = None,
    *,
    eigenpairs: Eigenpairs | None = None,
) -> list[ImageObject]:
    """Find the objects of an image, most confident first; a uniform image has none.

    Parameters
    ----------
    image : path, PIL image, or ndarray of shape (H, W), (H, W, 3) or (H, W, 4), uint8
    extractor : Extractor or str
    spec : ObjectSpec, optional
        Method, number of objects, refinement.
    eigenpairs : Eigenpairs, optional
        Precomputed eigenpairs of this image and extractor.

    Returns
    -------
    list of ImageObject
        Each with `mask` (H, W) bool, `box` (x, y, width, height) in pixels, and `score` from 0
        to 1.

    Raises
    ------
    SettingError
        The eigenpairs belong to another image, extractor or kind of graph.
    GraphError
        The image has fewer patches than the number of eigenpairs needed.
    """
    if spec is not None:
        check_type("spec", spec, ObjectSpec, "an ObjectSpec, such as ObjectSpec(count=3)")
    if eigenpairs is not None:
        check_type("eigenpairs", eigenpairs, Eigenpairs, "Eigenpairs")
    return eigen.objects.find.objects(
        as_image(image), the_extractor(extractor), spec, pairs=eigenpairs
    )


def joint_eigenvectors(
    images: Sequence[ImageLike], extractor: Extractor | str, k: int = 5, **options: Any
) -> JointEigenpairs:
    """Compute the K smallest eigenpairs of one graph over all patches of several images.

    Parameters
    ----------
    images : sequence of images, as in `eigenvectors`
        Images of any sizes, for example the frames of a video.
    extractor : Extractor or str
    k : int
    **options
        As in `eigen.joint.joint_eigenvectors`.

    Raises
    ------
    SettingError, ImageError
        There is no image, or one cannot be read.
    GraphError
        There are fewer patches than pairs.
    eigen.solvers.solution.ConvergenceError
        No solver reached the tolerance.
    """
    if isinstance(images, str) or not isinstance(images, Iterable):
        raise SettingError(f"images: expected a list of images, found {described(images)}")
    return eigen.joint.joint_eigenvectors(
        [as_image(image) for image in images], the_extractor(extractor), k, **options
    )
