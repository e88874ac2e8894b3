"""A GPU where there is none: tensors that say they are on "cuda:0", with real numbers in host memory.

    with fake_cuda() as gpu:
        pipeline.to("cuda")
        pipeline(…)  # raises where a GPU would: tensors of both mixed, a generator of the host …
        gpu.peak  # bytes

The CPU's kernels compute, so that a run gives the very numbers of one on the CPU. What the GPU's kernels refuse or
compute differently doesn't show. With a `capacity` the device runs out of memory as a GPU does; only what operations
return is counted, not what they need in passing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Thread, local
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

DEVICE = torch.device("cuda", 0)
HOST = torch.device("cpu")
aten = torch.ops.aten

INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._unsafe_index.Tensor}
"""What takes indices in host memory for a tensor on the device."""
MIXED = {aten.copy_.default, aten._has_compatible_shallow_copy_type.default}
"""What takes tensors of different devices."""
LISTS = {torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor}
"""What makes tensors of numbers in Python, by way of the host."""
READS = {getattr(torch.Tensor, name) for name in ("tolist", "item", "__bool__", "__int__", "__float__", "__index__")}
"""What waits for the device and gives numbers in Python."""
MOVES = {torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu}


class CudaTensor(torch.Tensor):
    """A tensor on the device, and the numbers that it holds. Torch's C++ takes it for one of the CPU."""

    numbers: torch.Tensor
    gpu: FakeGpu

    @staticmethod
    def __new__(cls, numbers: torch.Tensor, gpu: FakeGpu) -> CudaTensor:
        layout = {"strides": numbers.stride(), "storage_offset": numbers.storage_offset(), "dtype": numbers.dtype}
        with torch.inference_mode(False):  # or its views would fail
            made = torch.Tensor._make_wrapper_subclass(cls, numbers.size(), **layout, device=HOST)
        made.numbers, made.gpu = numbers, gpu
        return made

    device = property(lambda tensor: DEVICE)
    is_cuda = property(lambda tensor: True)
    is_cpu = property(lambda tensor: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        (gpu, *_) = (leaf.gpu for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, CudaTensor))
        return gpu.run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"CudaTensor({self.numbers!r})"


class _Asked(local):
    """Whether this thread's call of torch names the host; torch's C++ names it too where it means an input's device."""

    host = False


@dataclass
class FakeGpu:
    """The device's memory, and what befalls it."""

    capacity: int | None = None
    """Bytes that fit; None: any number."""
    used: int = 0
    """Bytes held now."""
    peak: int = 0
    """The most bytes held at a time."""
    pinned: int = 0
    """How often host memory was pinned."""
    fails: Callable[[Any], BaseException | None] = lambda operation: None
    """Asked before each operation on the device (as `torch.ops` has it, or "pin"): what it returns is raised."""
    asked: _Asked = field(default_factory=_Asked)
    _held: dict[int, list[int]] = field(default_factory=dict)
    """By storage: its bytes, and how many tensors are on it."""

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run an operation as the device would if it concerns the device, else as it is."""
        if kwargs.get("pin_memory"):
            self._befall("pin")
            self.pinned += 1
            kwargs = {**kwargs, "pin_memory": False}
        leaves, spec = tree_flatten((list(args), dict(kwargs)))
        inputs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        here, target = any(map(_is_here, inputs)), kwargs.get("device")
        to_device = target.type == DEVICE.type if target and (not here or self.asked.host) else here
        if not here and not to_device:
            return func(*args, **kwargs)
        self._befall(func)
        if torch.Tag.inplace_view in func.tags:
            raise NotImplementedError(f"the device doesn't know {func}, which changes a tensor's shape in place")
        if func not in MIXED:
            _check_devices(func, args, leaves, inputs)
        known = {id(_numbers(tensor)): tensor for tensor in inputs}
        real_args, real_kwargs = tree_unflatten([_numbers(leaf) for leaf in leaves], spec)
        made = func(*real_args, **(real_kwargs if target is None else {**real_kwargs, "device": HOST}))
        return tree_map_only(torch.Tensor, partial(self._placed, known, to_device), made)

    def moved(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """A copy of a tensor on a device."""
        self._befall(aten._to_copy.default)
        copied = _numbers(tensor.detach()).clone()
        return self._placed({}, device.type == DEVICE.type, copied)

    def _befall(self, operation: Any) -> None:
        if error := self.fails(operation):
            raise error

    def _placed(self, known: Mapping[int, torch.Tensor], on_device: bool, numbers: torch.Tensor) -> torch.Tensor:
        """A result of the CPU's kernels: an input that was changed in place, or a new tensor."""
        if not on_device or id(numbers) in known:
            return known.get(id(numbers), numbers)
        self._take(numbers.untyped_storage())
        tensor = CudaTensor(numbers, self)
        weakref.finalize(tensor, self._release, numbers.untyped_storage()._cdata).atexit = False
        return tensor

    def _take(self, storage: torch.UntypedStorage) -> None:
        held = self._held.get(storage._cdata)
        if held is None:
            size = storage.nbytes()
            if self.capacity is not None and self.used + size > self.capacity:
                free = self.capacity - self.used
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes, {free} are free")
            held = self._held[storage._cdata] = [size, 0]
            self.used += size
            self.peak = max(self.peak, self.used)
        held[1] += 1

    def _release(self, storage: int) -> None:
        held = self._held[storage]
        held[1] -= 1
        if not held[1]:
            self.used -= self._held.pop(storage)[0]

    def memory(self, device: Any = None) -> tuple[int, int]:
        """Free and total bytes, as `torch.cuda.mem_get_info` has them."""
        total = self.capacity or 2**40
        return total - self.used, total

    def statistics(self, device: Any = None) -> dict[str, dict[str, dict[str, int]]]:
        """What torch's allocator counts, as `torch.cuda.memory_stats_as_nested_dict` has it."""
        return {
            kind: {"all": {"current": self.used, "peak": self.peak}} for kind in ("allocated_bytes", "reserved_bytes")
        }

    def limit(self, fraction: float, device: Any = None) -> None:
        """Let the process take only a part of the memory."""
        self.capacity = None if fraction == 1 else int(fraction * self.memory()[1])

    def restart(self, device: Any = None) -> None:
        """Measure the peak from now on."""
        self.peak = self.used


class _Operations(TorchDispatchMode):
    """Has operations that make tensors make them on the device."""

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._gpu.run(func, args, kwargs or {})


class _Calls(TorchFunctionMode):
    """Does what torch's C++ would do with CPU tensors: moves between devices, and lists of numbers."""

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in MOVES:
            return self._move(func, args, kwargs)
        if func in LISTS:
            of_device = func is torch.Tensor.new_tensor and _is_here(args[0])
            target = _device(kwargs.get("device") or (DEVICE if of_device else None))
            if func is torch.as_tensor and target is None and _is_here(args[0]):
                return func(*args, **kwargs)
            made = func(*args, **{**kwargs, "device": HOST})
            return made if target is None else self._move(torch.Tensor.to, (made, target), {})
        if func in READS and _is_here(args[0]):
            return func(args[0].numbers)
        if "device" not in kwargs:
            return func(*args, **kwargs)
        before, device = self._gpu.asked.host, _device(kwargs["device"])
        self._gpu.asked.host = device == HOST
        try:
            return func(*args, **{**kwargs, "device": device})
        finally:
            self._gpu.asked.host = before

    def _move(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> torch.Tensor:
        tensor, *rest = args
        like = [of for of in (*rest, kwargs.get("other")) if isinstance(of, torch.Tensor)]
        if func is not torch.Tensor.to:
            target, dtype = (DEVICE if func is torch.Tensor.cuda else HOST), None
        elif like:
            target, dtype = like[0].device, like[0].dtype
        else:
            target, dtype, _, _ = torch._C._nn._parse_to(*rest, **{k: v for k, v in kwargs.items() if k != "copy"})
            target = _device(target)
        if not _is_here(tensor) and (target is None or target.type != DEVICE.type):
            return func(*args, **kwargs)
        changed: torch.Tensor = tensor if dtype is None else torch.Tensor.to(tensor, dtype=dtype)
        if target is not None and target.type != tensor.device.type:
            return _Move.apply(changed, target, self._gpu)
        return changed.clone() if kwargs.get("copy") and changed is tensor else changed


class _Move(torch.autograd.Function):
    """Moves a tensor, and its gradient back."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, device: torch.device, gpu: FakeGpu) -> torch.Tensor:
        ctx.gpu, ctx.origin = gpu, tensor.device
        return gpu.moved(tensor, device)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.gpu.moved(gradient, ctx.origin), None, None


@contextmanager
def fake_cuda(capacity: int | None = None) -> Iterator[FakeGpu]:
    """A GPU for this thread, and for threads that it starts, while the scope is open."""
    gpu = FakeGpu(capacity)
    run = Thread.run

    def run_with_gpu(thread: Thread) -> None:
        with _Calls(gpu), _Operations(gpu):
            run(thread)

    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "a pretended GPU",
        "mem_get_info": gpu.memory,
        "memory_stats_as_nested_dict": gpu.statistics,
        "memory_allocated": lambda device=None: gpu.used,
        "max_memory_allocated": lambda device=None: gpu.peak,
        "reset_peak_memory_stats": gpu.restart,
        "set_per_process_memory_fraction": gpu.limit,
        "get_per_process_memory_fraction": lambda device: float(_index(device) == 0),
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: None,
    }
    replaces = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        stack.enter_context(patch.object(torch.accelerator, "empty_host_cache", lambda: None, create=True))
        stack.enter_context(patch.object(Thread, "run", run_with_gpu))
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, replaces)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.enter_context(_Calls(gpu))
        stack.enter_context(_Operations(gpu))
        yield gpu


def _is_here(value: Any) -> bool:
    return isinstance(value, CudaTensor)


def _numbers(value: Any) -> Any:
    return value.numbers if isinstance(value, CudaTensor) else value


def _device(named: Any) -> torch.device | None:
    """A device by any of its names; "cuda" is the one that there is."""
    if named is None:
        return None
    device = torch.device(named)
    return DEVICE if device.type == DEVICE.type else device


def _index(device: Any) -> int:
    """The number of a device, where torch refuses one without."""
    index = device if isinstance(device, int) else torch.device(device).index
    if index is None:
        raise ValueError(f"expected a device with a specified index, but got {device}")
    return index


def _check_devices(func: Any, args: Sequence[Any], leaves: list[Any], inputs: list[torch.Tensor]) -> None:
    """Refuse what a GPU refuses: generators of the host, and tensors in host memory beside those on the device, but for
    numbers and indices.
    """
    if any(isinstance(leaf, torch.Generator) and leaf.device.type != DEVICE.type for leaf in leaves):
        raise RuntimeError(f"{func}: expected a 'cuda' device type for generator but found 'cpu'")
    if not any(map(_is_here, inputs)):
        return
    if func in INDEXED and _is_here(args[0]):
        return
    if any(tensor.ndim and not _is_here(tensor) for tensor in inputs):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found cuda:0 and cpu")
