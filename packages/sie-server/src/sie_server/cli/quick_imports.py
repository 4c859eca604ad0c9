"""A shorter import of torch, for a process that serves."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.metadata import version
from types import ModuleType
from typing import Any

# Modules of a build of torch for CPUs that a server does not use: half of what its import takes. They are about torch's
# compiler and export, training, quantized modules, and other devices. With each, the names that torch takes out of it
# all the same: while it is imported, for the first device, or for tensors on the device `meta`.
UNUSED: dict[str, tuple[str, ...]] = {
    "torch._higher_order_ops": ("cond", "while_loop"),
    "torch._higher_order_ops.invoke_subgraph": ("NestedCompileRegionOptions",),
    "torch._meta_registrations": (),
    "torch._native": (),  # kernels for CUDA
    "torch.ao": (),
    "torch.distributed._meta_registrations": (),
    "torch.distributions": (),
    "torch.export": (),
    "torch.func": ("vmap",),
    "torch.fx": (),
    "torch.fx.experimental": (),
    "torch.fx.experimental.sym_node": ("DynamicInt",),
    "torch.fx.operator_schemas": ("_SCHEMA_TO_SIGNATURE_CACHE",),
    "torch.fx.traceback": (),
    "torch.hub": (),
    "torch.masked": (),
    "torch.nested": ("nested_tensor",),
    "torch.nn.intrinsic": (),
    "torch.nn.qat": (),
    "torch.nn.quantizable": (),
    "torch.nn.quantized": (),
    "torch.optim": (),
    "torch.profiler": (),
    "torch.quantization": (),
    "torch.sparse": (),
    "torch.utils.data": (),
    "torch.xpu": (),
    "torchgen": (),
    "torchgen.model": (),
}
# torch's compiler, and what it needs of the above: these import each other in circles, and only in this order.
_COMPILER = "torch._dynamo"
_CIRCLES = (
    "torch.export",
    "torch.func",
    "torch._higher_order_ops",
    "torch.distributed._meta_registrations",
    "torch._meta_registrations",
)
# Another version of torch is imported whole: its imports may need something else.
_VERSION, _CPU_BUILD = "2.13.", "+cpu"


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import a build of torch for CPUs without what a server does not use, and collect no garbage meanwhile.

    What is left out is imported by its first use, or by an import after this block. Nothing is left out if torch has
    been imported before.
    """
    collects = gc.isenabled()
    gc.disable()
    absent: list[_AbsentModule] = []
    build = version("torch")
    if "torch" not in sys.modules and build.startswith(_VERSION) and build.endswith(_CPU_BUILD):
        absent = [_AbsentModule(name, names) for name, names in UNUSED.items()]
    sys.modules.update({module.__name__: module for module in absent})
    try:
        yield
        if absent and (torch := sys.modules.get("torch")) is not None:
            torch.device("cpu")  # looks for `DynamicInt`, once per process
            sys.meta_path.insert(0, _CompilerFinder())
    finally:
        for module in absent:
            module.give_way()
        if collects:
            gc.enable()


class _AbsentModule(ModuleType):
    """Stands for a module until one of its attributes is used. names: that may be taken out of it before that."""

    def __init__(self, name: str, names: tuple[str, ...]) -> None:
        super().__init__(name)
        for each in names:
            setattr(self, each, _absent_member(name, each))
        if names:
            self.__path__: list[str] = []  # looked up by `from … import`

    def __getattr__(self, name: str) -> Any:
        # Python looks for more of these, in modules that need not have them.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        self.give_way()
        if self.__name__ in _CIRCLES:
            _import_circles()
        return getattr(import_module(self.__name__), name)

    def give_way(self) -> None:
        """Let the next import of this name have the module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        package, _, name = self.__name__.rpartition(".")
        if package in sys.modules and name not in vars(sys.modules[package]):
            setattr(sys.modules[package], name, self)


class _CompilerFinder(MetaPathFinder):
    """Has everything that torch's compiler needs imported before it."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == _COMPILER:
            sys.meta_path.remove(self)
            _import_circles()


def _import_circles() -> None:
    for name in _CIRCLES:
        import_module(name)


def _absent_member(module: str, name: str) -> type:
    """A function or class that calls that of a module, which is imported by the first call."""

    def call(_: type, *args: Any, **kwargs: Any) -> Any:
        _import_circles()
        return getattr(import_module(module), name)(*args, **kwargs)

    return type(name, (), {"__new__": call, "__module__": module})
