"""Objects from eigenvectors: `objects` for one image, and the published rules one by one."""

from eigen.object_spec import ObjectSpec
from eigen.objects.find import ImageObject, objects

__all__ = ["ImageObject", "ObjectSpec", "objects"]
