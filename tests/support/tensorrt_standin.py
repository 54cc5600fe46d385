"""A module that stands in for `tensorrt`, made from the typing stub of the real bindings.

It has the classes, methods, fields and enums of the stub and no others. It accepts a call only with
arguments of the names and types in the stub, and a result only of the type in the stub. So it
refuses every call that the real bindings refuse. The stub does not describe TensorRT's behaviour: a
test scripts that with `World.on`, and its script may be wrong. Such a test shows the order of our
calls and our handling of failures.
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
# Results of calls that no test has scripted.
_PLAIN: dict[str, Any] = {"bool": True, "int": 0, "str": "", "float": 0.0}


class RefusedError(AssertionError):
    """The real bindings would refuse this."""


@dataclass
class Signature:
    parameters: list[tuple[str, str, bool]]
    """Name, annotation, and whether it is optional."""
    returns: str


@dataclass
class Kind:
    """A class as the stub describes it."""

    name: str
    bases: list[str]
    methods: dict[str, list[Signature]] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)


@dataclass
class World:
    """A stand-in module, the calls that it received, and its scripted actions."""

    module: ModuleType
    kinds: dict[str, Kind]
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    actions: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def on(self, name: str, action: Callable[..., Any]) -> None:
        """Script the result of a method or field, such as `Builder.create_network`.

        `action` is called with the object and the arguments by name.
        """
        kind, _, member = name.partition(".")
        known = self.kinds[kind]
        assert member in known.methods or member in known.fields or member in known.properties, name
        self.actions[name] = action

    def called(self, name: str) -> list[dict[str, Any]]:
        """Return the arguments of each call of a method, or each value that a field was set to."""
        return [arguments for called, arguments in self.calls if called == name]

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def new(self, kind: str, *content: bytes) -> Any:
        """Create an object of a class that need not have a public constructor."""
        instance = getattr(self.module, kind).__new__(getattr(self.module, kind), *content)
        object.__setattr__(instance, "_ready", True)
        return instance

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
        bound = dict(zip((name for name, _, _ in signature.parameters), args, strict=False))
        if set(bound) & set(kwargs):
            return None
        bound |= kwargs
        known = {name: annotation for name, annotation, _ in signature.parameters}
        needed = {name for name, _, optional in signature.parameters if not optional}
        if not needed <= set(bound) <= set(known):
            return None
        fits = all(self._fits(value, known[name]) for name, value in bound.items())
        return bound if fits else None

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
    """Create the stand-in for one version of the bindings."""
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
            if part.args.vararg is None:  # else users cannot create or call it
                kind.methods.setdefault(part.name, []).append(Signature(parameters, returns))
    return kind


def _make(kind: Kind, world: World, above: list[type], is_buffer: bool) -> type:
    """Create a class with the members of `kind`."""

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
            # Defined by a class that inherits from this one.
            return object.__getattribute__(self, name)
        if name in kind.methods:
            return lambda *args, **kwargs: world.call(self, kind, name, args, kwargs)
        if name in kind.fields and f"_{name}" in self.__dict__:
            return self.__dict__[f"_{name}"]
        if name in kind.fields or name in kind.properties:
            return world.get(self, kind, name)
        raise RefusedError(f"{kind.name} has no {name}")

    def assign(self: Any, name: str, value: Any) -> None:
        if type(self) is created:
            world.set(self, kind, name, value)
        else:  # subclasses in Python may have more fields
            object.__setattr__(self, name, value)

    def forward(name: str) -> Callable[..., Any]:
        return lambda self, *args: world.call(self, kind, name, args, {})

    # Python looks special methods up in the class itself.
    sequence = {name: forward(name) for name in ("__len__", "__getitem__") if name in kind.methods}
    created = type(
        kind.name,
        (*above, bytes) if is_buffer else tuple(above) or (object,),
        {"__init__": construct, "__getattribute__": look_up, "__setattr__": assign, **sequence},
    )
    return created
