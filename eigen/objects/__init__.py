"""Objects from eigenvectors: `objects` for one image, and the published rules one by one."""

from eigen.objects.find import ImageObject, ObjectSpec, objects

__all__ = ["ImageObject", "ObjectSpec", "objects"]
