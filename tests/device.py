"""A torch device that is not the CPU and needs no GPU: "far".

Its tensors lie in main memory, and every operation runs on the CPU, so results are those of the
CPU. But a tensor of the device meets one of the CPU only in a copy: any other operation on both is
refused, as a GPU refuses it. So a `.to(device)` that was forgotten fails here.

As on a GPU, a CPU tensor without dimensions counts as a number and may take part, and a CPU index
may select from a tensor of the device.

`register()` changes torch for good: call it in a process of its own.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.library import Library
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "far"
COPIES = ("aten::copy_", "aten::_to_copy")
INDEXING = ("aten::index", "aten::index_put_", "aten::_index_put_impl_")


class FarTensor(torch.Tensor):
    """A tensor of the device; `near` is the CPU tensor with its values."""

    near: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> FarTensor:
        with torch.inference_mode(False):  # a view of a usual tensor is a usual tensor
            far = torch.Tensor._make_wrapper_subclass(
                cls,
                near.size(),
                strides=near.stride(),
                storage_offset=near.storage_offset(),
                dtype=near.dtype,
                device=torch.device(NAME, 0),
            )
        far.near = near
        return far

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, *args, **(kwargs or {}))

    def __getitem__(self, index: Any) -> torch.Tensor:
        return super().__getitem__(_without_lists(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_without_lists(index), value)

    def tolist(self) -> Any:
        return self.near.tolist()

    def numpy(self, **kwargs: Any) -> Any:
        raise TypeError(f"cannot convert a tensor of {NAME} to NumPy; use .cpu() first")

    def __reduce_ex__(self, protocol: int) -> Any:
        return self.near.__reduce_ex__(protocol)

    def __repr__(self, **kwargs: Any) -> str:
        return f"{NAME} {self.near!r}"


def _without_lists(index: Any) -> Any:
    """An index with tensors in place of lists, which torch copies to the device by itself."""
    if isinstance(index, tuple):
        return tuple(map(_without_lists, index))
    return torch.tensor(index) if isinstance(index, list) else index


def _run(op: Any, *args: Any, **kwargs: Any) -> Any:
    name = op._schema.name
    if name == "aten::_copy_from":  # what torch makes of a copy from the CPU or to it
        source, target = args[:2]
        _near(target).copy_(_near(source))
        return target
    tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    _refuse_mixture(name, tensors)
    far_of = {id(x.near): x for x in tensors if isinstance(x, FarTensor)}
    goes_far = _goes_far(tensors, kwargs)
    args, kwargs = pytree.tree_map_only(torch.Tensor, _near, (args, kwargs))
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    kwargs.pop("pin_memory", None)
    result = op(*args, **kwargs)
    if not goes_far:
        return result
    return pytree.tree_map_only(
        torch.Tensor, lambda x: far_of[id(x)] if id(x) in far_of else FarTensor(x), result
    )


def _refuse_mixture(name: str, tensors: list[torch.Tensor]) -> None:
    if name in COPIES or not any(isinstance(x, FarTensor) for x in tensors):
        return
    where = tensors[:1] if name in INDEXING else tensors
    if any(x.ndim and not isinstance(x, FarTensor) for x in where):
        raise RuntimeError(
            f"{name}: expected all tensors to be on the same device, found {NAME} and cpu"
        )


def _goes_far(tensors: list[torch.Tensor], kwargs: dict[str, Any]) -> bool:
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"]).type == NAME
    return any(isinstance(x, FarTensor) for x in tensors)


def _near(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.near if isinstance(tensor, FarTensor) else tensor


class _Module:
    """What torch asks of the module of a device."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def manual_seed_all(self, seed: int) -> None:
        """The numbers are the CPU's."""


_kept: list[Library] = []


def register() -> None:
    """Make the device known to torch."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    library = Library("_", "IMPL")
    library.fallback(_run, "PrivateUse1")
    _kept.append(library)  # registrations live as long as it does
    for name in ("tensor", "as_tensor"):
        setattr(torch, name, _moved(getattr(torch, name)))


def _moved(constructor: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A constructor of torch that makes its tensor on the CPU, then copies it to the device.

    What torch does inside is closed to devices that are written in Python.
    """

    @functools.wraps(constructor)
    def made(values: Any, *args: Any, device: Any = None, **settings: Any) -> torch.Tensor:
        if device is None or torch.device(device).type != NAME:
            return constructor(values, *args, device=device, **settings)
        return constructor(values, *args, **settings).to(device)

    return made


def stand_in() -> None:
    """Let the device stand in for the GPU that this software is asked to use by the name "cuda"."""
    from eigen import device

    real = device.torch_device

    def torch_device(name: str = "auto", **settings: Any) -> torch.device:
        return torch.device(NAME, 0) if name.startswith("cuda") else real(name, **settings)

    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get("torch_device") is real:
            module.torch_device = torch_device  # type: ignore[attr-defined]
    torch.cuda.mem_get_info = lambda device=None: (1 << 30, 1 << 30)
