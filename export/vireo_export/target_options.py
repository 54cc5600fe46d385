"""The options of `vireo export` that not every target has.

They are the fields of the target's class in `vireo_serving.targets`. This module names none of
them, so that the options of a new target appear by themselves.
"""

from __future__ import annotations

import inspect
from copy import copy
from dataclasses import fields
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand
from vireo_client.errors import ExportError

if TYPE_CHECKING:
    from vireo_serving.targets import Target

# Keys in the context's `meta`.
_TARGET, _OPTIONS = "vireo_export.target", "vireo_export.target_options"


class TargetCommand(TyperCommand):
    """A command that also has the options of the target that its option `--target` names.

    The command's function finds the target, which holds the values, in `typer.Context.obj`.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's own options and those of the target; `--help` lists them."""
        return [*super().get_params(ctx), *ctx.meta.get(_OPTIONS, ())]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, and refuse the options of other targets."""
        from vireo_serving.targets import TARGETS  # loads gRPC, which most commands do not need

        options = {name: _options_of(target) for name, target in TARGETS.items()}
        by_name = {option.name: option for several in options.values() for option in several}
        ctx.meta[_OPTIONS] = by_name.values()
        typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        name = typed.get("target") or next(iter(TARGETS))
        if name not in TARGETS:
            ctx.fail(f"--target is {name!r}; it must be one of {', '.join(TARGETS)}")
        target = TARGETS[name]
        ctx.meta[_TARGET], ctx.meta[_OPTIONS] = target, options[name]
        own = [option.name for option in options[name]]
        for foreign in typed.keys() & by_name.keys() - set(own):
            option = by_name[foreign]
            owners = [n for n, several in options.items() if foreign in {o.name for o in several}]
            ctx.fail(
                f"{'/'.join([*option.opts, *option.secondary_opts])} is for target "
                f"{' or '.join(owners)}; this is target {name} ({target.summary})"
            )
        rest = super().parse_args(ctx, args)
        values = [ctx.params.pop(option) for option in own]
        values = [tuple(value) if isinstance(value, list) else value for value in values]
        try:
            ctx.obj = target(**dict(zip(own, values, strict=True)))
        except ExportError as error:
            ctx.fail(str(error))
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with a word on this target and on how to see the others."""
        from vireo_serving.targets import TARGETS

        target = ctx.meta[_TARGET]
        others = " or ".join(
            f"`{ctx.command_path} --target {name} --help`"
            for name in TARGETS
            if name != target.name
        )
        command = copy(self)
        command.epilog = (
            f"Target {target.name}: {target.summary}. Precisions: {', '.join(target.precisions)}; "
            f"by default {target.precisions[0]}. Other targets have other options: {others}."
        )
        TyperCommand.format_help(command, ctx, formatter)


def _options_of(target: type[Target]) -> list[Any]:
    """Return the options of one target, as typer makes them."""
    hints = get_type_hints(target, include_extras=True)

    def command() -> None: ...

    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=_for_typer(hints[field.name]),
            )
            for field in fields(target)
        ]
    )
    app = typer.Typer(add_completion=False)
    app.command()(command)
    options: list[Any] = list(typer.main.get_command(app).params)
    for option in options:
        option.rich_help_panel = f"Options of target {target.name}"
    return options


def _for_typer(hint: Any) -> Any:
    """Return an annotation that typer knows: it takes lists for tuples, and text for literals."""
    kind, option = get_args(hint)
    if get_origin(kind) is tuple:
        return Annotated[GenericAlias(list, get_args(kind)[:1]), option]
    return Annotated[str, option] if get_origin(kind) is Literal else hint
