"""`vireo export` shows and takes the options of the target alone."""

import pytest
from typer.testing import CliRunner
from vireo_client.cli import build_app
from vireo_export import commands
from vireo_export.target_options import TargetCommand
from vireo_serving.targets import TARGETS, Cpu, TensorRT

OWN = {
    "--device": (("onnxruntime",), ["gpu"]),
    "--gpu": (("onnxruntime", "tensorrt"), ["1"]),
    "--ort-tensorrt-cache": (("onnxruntime",), ["/plans"]),
    "--cuda-graphs": (("tensorrt",), []),
    "--no-cuda-graphs": (("tensorrt",), []),
    "--dry-run": (("tensorrt",), []),
    "--workspace-mb": (("tensorrt",), ["64"]),
    "--builder-level": (("tensorrt",), ["5"]),
    "--hardware-compatibility": (("tensorrt",), ["ampere_plus"]),
    "--version-compatible": (("tensorrt",), []),
}
"""The targets of each option that not all of them have, and a value."""
SHARED = {
    "--data": ["photos"],
    "--repository": ["r"],
    "--split": ["test"],
    "--max-batch-size": ["8"],
    "--queue-delay-us": ["10"],
    "--threads": ["2"],
    "--instances": ["2"],
    "--queue-limits": [],
    "--queue-size": ["7"],
    "--queue-timeout-ms": ["7"],
    "--bulk-queue-timeout-ms": ["7"],
    "--no-response-cache": [],
    "--keep": ["3"],
    "--precision": ["fp16"],
    "--json": [],
}


class Parsed(Exception):  # noqa: N818
    """The arguments were accepted; the work would begin."""


@pytest.fixture
def export(monkeypatch):
    """Runs `vireo export` up to the work; returns the result."""

    def begin(*_):
        raise Parsed

    monkeypatch.setattr(commands, "require", begin)

    def run(*arguments):
        # Wide, so that no message is broken into lines.
        return CliRunner().invoke(build_app(), ["export", *arguments], env={"COLUMNS": "400"})

    return run


def _needed_with(option, target):
    """Options without which an accepted one would be refused."""
    return ["--device", "gpu"] if target == "onnxruntime" and option != "--device" else []


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("option", OWN)
def test_an_option_is_for_its_targets_alone(export, target, option):
    targets, value = OWN[option]
    more = _needed_with(option, target)
    done = export("bundle", "--target", target, option, *value, *more)
    if target in targets:
        assert isinstance(done.exception, Parsed), done.output
    else:
        assert done.exit_code == 2
        assert f"is for target {' or '.join(targets)}; this is target {target} (" in done.output
        assert option in done.output


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("option", SHARED)
def test_shared_options_are_for_every_target(export, target, option):
    done = export("bundle", option, *SHARED[option], f"--target={target}")
    assert isinstance(done.exception, Parsed), done.output


@pytest.mark.parametrize("target", [None, *TARGETS])
def test_help_shows_the_options_of_the_target(export, target):
    arguments = ["--help"] if target is None else ["--help", "--target", target]
    done = export(*arguments)
    assert done.exit_code == 0
    target = target or "cpu"
    for option in SHARED:
        assert option in done.output
    for option, (targets, _) in OWN.items():
        assert (f"{option} " in done.output) == (target in targets), option
    for other in set(TARGETS) - {target}:
        assert f"export --target {other} --help" in done.output
    precisions = TARGETS[target].precisions
    assert f"Precisions: {', '.join(precisions)}; by default {precisions[0]}" in done.output


def test_values_reach_the_target(monkeypatch):
    targets = []
    monkeypatch.setattr(TargetCommand, "invoke", lambda _, ctx: targets.append(ctx.obj))
    options = "--target tensorrt --gpu 1 --gpu 2 --no-cuda-graphs --dry-run --workspace-mb 64"
    for arguments in (options.split(), []):
        done = CliRunner().invoke(build_app(), ["export", "bundle", *arguments])
        assert done.exit_code == 0, done.output
    assert targets == [
        TensorRT(gpus=(1, 2), cuda_graphs=False, dry_run=True, workspace_mb=64),
        Cpu(),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "openvino"], "--target is 'openvino'; it must be one of cpu, onnxruntime"),
        (["--target", "onnxruntime", "--device", "tpu"], "it must be cpu or gpu"),
        (["--target", "onnxruntime", "--gpu", "1"], "--gpu is for --device gpu"),
        (
            ["--target", "onnxruntime", "--ort-tensorrt-cache", "/p"],
            "tensorrt-cache is for --device",
        ),
        (["--target", "tensorrt", "--hardware-compatibility", "all"], "must be one of none"),
        (["--target", "tensorrt", "--builder-level", "6"], "--builder-level"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_wrong_values_are_refused(export, arguments, message):
    done = export("bundle", *arguments)
    assert done.exit_code == 2
    assert message in done.output
