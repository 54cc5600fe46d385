"""A module that stands in for `tensorrt`, made from the typing stub of the real bindings.

Its classes, methods, fields and enums are those of the stub and no others; a call is accepted only
with arguments of the names and types in the stub, and a result only of the type in the stub. So it
cannot take what the real bindings refuse. What TensorRT *does* is not in the stub: a test says that
with `World.on`, and it is the test's belief. The order of our calls and our answers to failures are
what such a test proves.
"""

from __future__ import annotations

import ast
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any

from support.tensorrt_bindings import Bindings

_BUILT_IN = {kind.__name__: kind for kind in (int, str, bool, float, list, tuple)}
# What a call gives that no test said anything about.
_PLAIN: dict[str, Any] = {"bool": True, "int": 0, "str": "", "float": 0.0}


class RefusedError(AssertionError):
    """The real bindings would not take this."""


@dataclass
class Signature:
    parameters: list[tuple[str, str, bool]]
    """Name, annotation, whether it may be left out."""
    returns: str


@dataclass
class Kind:
    """What the stub says of a class."""

    name: str
    bases: list[str]
    methods: dict[str, list[Signature]] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)


@dataclass
class World:
    """A stand-in module, what it was asked to do, and what it does."""

    module: ModuleType
    kinds: dict[str, Kind]
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    actions: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def on(self, name: str, action: Callable[..., Any]) -> None:
        """Says what a method or field, such as `Builder.create_network`, gives.

        `action` gets the object and the arguments by name.
        """
        kind, _, member = name.partition(".")
        known = self.kinds[kind]
        assert member in known.methods or member in known.fields or member in known.properties, name
        self.actions[name] = action

    def called(self, name: str) -> list[dict[str, Any]]:
        """Gives the arguments of every call of a method and the value of every field set."""
        return [arguments for called, arguments in self.calls if called == name]

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def new(self, kind: str, *content: bytes) -> Any:
        """Makes an object as the bindings do, which lets few classes be made by their users."""
        made = getattr(self.module, kind).__new__(getattr(self.module, kind), *content)
        object.__setattr__(made, "_ready", True)
        return made

    def call(self, owner: Any, kind: Kind, member: str, args: Any, kwargs: Any) -> Any:
        name = f"{kind.name}.{member}"
        for signature in kind.methods[member]:
            arguments = self._bind(signature, args, kwargs)
            if arguments is not None:
                break
        else:
            raise RefusedError(f"{name} takes {kind.methods[member]}, not {args} {kwargs}")
        self.calls.append((name, arguments))
        if member == "__init__":
            return None
        action = self.actions.get(name)
        result = (
            action(owner, **arguments) if action is not None else self._plain(signature.returns)
        )
        null = result is None and signature.returns in self.kinds
        if not null and not self._fits(result, signature.returns):
            raise RefusedError(f"{name} gives {signature.returns}, never {result!r}")
        return result

    def get(self, owner: Any, kind: Kind, member: str) -> Any:
        name = f"{kind.name}.{member}"
        annotation = kind.fields.get(member) or kind.properties[member]
        action = self.actions.get(name)
        result = action(owner) if action is not None else self._plain(annotation)
        if not self._fits(result, annotation):
            raise RefusedError(f"{name} is {annotation}, never {result!r}")
        return result

    def set(self, owner: Any, kind: Kind, member: str, value: Any) -> None:
        if member not in kind.fields:
            raise RefusedError(f"{kind.name}.{member} cannot be set")
        if not self._fits(value, kind.fields[member]):
            raise RefusedError(f"{kind.name}.{member} is {kind.fields[member]}, not {value!r}")
        self.calls.append((f"{kind.name}.{member}", {"value": value}))
        object.__setattr__(owner, f"_{member}", value)

    def _bind(self, signature: Signature, args: Any, kwargs: Any) -> dict[str, Any] | None:
        if len(args) > len(signature.parameters):
            return None
        given = dict(zip((name for name, _, _ in signature.parameters), args, strict=False))
        if set(given) & set(kwargs):
            return None
        given |= kwargs
        known = {name: annotation for name, annotation, _ in signature.parameters}
        needed = {name for name, _, optional in signature.parameters if not optional}
        if not needed <= set(given) <= set(known):
            return None
        fits = all(self._fits(value, known[name]) for name, value in given.items())
        return given if fits else None

    def _fits(self, value: Any, annotation: str) -> bool:
        if annotation == "None":
            return value is None
        if annotation in _BUILT_IN:
            return isinstance(value, _BUILT_IN[annotation])
        if annotation in ("list[int]", "collections.abc.Sequence[int]"):
            return isinstance(value, list) and all(isinstance(item, int) for item in value)
        if annotation == "typing_extensions.Buffer":
            return isinstance(value, bytes | bytearray | memoryview)
        kind: Any = self.module
        for part in annotation.split("."):
            kind = getattr(kind, part)
        ready = isinstance(value, enum.Enum) or getattr(value, "_ready", False)
        if isinstance(value, kind) and not ready:
            raise RefusedError(f"{type(value).__name__} did not call the __init__ of {annotation}")
        return isinstance(value, kind)

    def _plain(self, annotation: str) -> Any:
        if annotation == "None":
            return None
        return _PLAIN[annotation] if annotation in _PLAIN else self.new(annotation)


def stand_in(bindings: Bindings) -> World:
    """Makes the stand-in for one version of the bindings."""
    kinds = _classes(bindings.stub)
    module = ModuleType("tensorrt")
    world = World(module, kinds)
    for name, kind in kinds.items():
        if name in bindings.enums:
            setattr(module, name, enum.IntEnum(name, bindings.enums[name]))  # type: ignore[misc]
            continue
        above = [getattr(module, base) for base in kind.bases if hasattr(module, base)]
        setattr(module, name, _make(kind, world, above, name in bindings.buffers))
    severity = enum.IntEnum("Severity", bindings.enums["ILogger.Severity"])  # type: ignore[misc]
    module.ILogger.Severity = severity  # type: ignore[attr-defined]
    module.__version__ = bindings.version  # type: ignore[attr-defined]
    return world


@lru_cache
def _classes(stub: str) -> dict[str, Kind]:
    nodes = [node for node in ast.parse(stub).body if isinstance(node, ast.ClassDef)]
    return {node.name: _read(node) for node in nodes}


def _read(node: ast.ClassDef) -> Kind:
    kind = Kind(node.name, [ast.unparse(base) for base in node.bases])
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            annotation = ast.unparse(part.annotation)
            if not annotation.startswith("ClassVar"):
                kind.fields[part.target.id] = annotation
        elif isinstance(part, ast.FunctionDef):
            returns = ast.unparse(part.returns) if part.returns else "object"
            if any(ast.unparse(d) == "property" for d in part.decorator_list):
                kind.properties[part.name] = returns
                continue
            arguments = part.args.args[1:]
            first_optional = len(arguments) - len(part.args.defaults)
            parameters = [
                (
                    a.arg,
                    ast.unparse(a.annotation) if a.annotation else "object",
                    n >= first_optional,
                )
                for n, a in enumerate(arguments)
            ]
            if part.args.vararg is None:  # else the bindings let nobody make or call it
                kind.methods.setdefault(part.name, []).append(Signature(parameters, returns))
    return kind


def _make(kind: Kind, world: World, above: list[type], is_buffer: bool) -> type:
    """Makes a class that has what `kind` has."""

    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        if "__init__" not in kind.methods:
            raise RefusedError(f"{kind.name} has no constructor")
        world.call(self, kind, "__init__", args, kwargs)
        action = world.actions.get(f"{kind.name}.__init__")
        if action is not None:
            action(self, *args, **kwargs)
        object.__setattr__(self, "_ready", True)

    def look_up(self: Any, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        if name in type(self).__dict__ or name in getattr(self, "__dict__", {}):
            return object.__getattribute__(self, name)  # of a class that inherits from this one
        if name in kind.methods:
            return lambda *args, **kwargs: world.call(self, kind, name, args, kwargs)
        if name in kind.fields and f"_{name}" in self.__dict__:
            return self.__dict__[f"_{name}"]
        if name in kind.fields or name in kind.properties:
            return world.get(self, kind, name)
        raise RefusedError(f"{kind.name} has no {name}")

    def assign(self: Any, name: str, value: Any) -> None:
        if type(self) is made:
            world.set(self, kind, name, value)
        else:  # classes of Python's own may have more
            object.__setattr__(self, name, value)

    def forward(name: str) -> Callable[..., Any]:
        return lambda self, *args: world.call(self, kind, name, args, {})

    # Python looks these up in the class itself.
    sequence = {name: forward(name) for name in ("__len__", "__getitem__") if name in kind.methods}
    made = type(
        kind.name,
        (*above, bytes) if is_buffer else tuple(above) or (object,),
        {"__init__": construct, "__getattribute__": look_up, "__setattr__": assign, **sequence},
    )
    return made
