"""Finds what of Vireo works on this machine: packages, GPU, Triton, and what a search would use.

Each finding says what was found and, where something is missing or broken, what to do. Nothing is
installed, downloaded, started or changed.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from . import __version__, environment
from .bundle import Bundle
from .cores import usable_cores
from .errors import MissingExtraError, VireoError, first_line
from .extras import BUILDS, clashing_builds, import_faiss, import_onnxruntime, installed_version
from .repository import BUNDLE_PARAMETER, IMAGE_MODEL, TEXT_MODEL, model_file
from .text.pipeline import TextPath
from .towers.connection import ConnectionOptions, read_addresses
from .towers.tls import ClientTls

State = Literal["ok", "missing", "broken"]

_OPTIONAL = {
    "pyvi": "segment", "py_vncorenlp": "segment", "pillow-heif": "heif", "pyarrow": "data",
    "torch": "train", "onnx": "export", "open_clip_torch": "sources", "tensorrt": "gpu",
}  # fmt: skip
"""Distributions that only some commands need, and the extras that bring them."""

_SECONDS = 10.0
"""How long a program or a server has to answer."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    topic: str
    state: State
    """`missing` is what only some uses need; `broken` keeps something from working that is needed
    or was asked for."""
    found: str
    advice: str | None = None
    """What to do."""


def diagnose(
    index: Path | None,
    model: Path | None,
    triton: str | None,
    tls: ClientTls | None,
    connection: ConnectionOptions | None = None,
) -> Iterator[Finding]:
    """Look at everything in turn.

    Args:
        index: an index that would be searched, or None.
        model: a model repository that would be used, or None.
        triton: the address of a Triton server that would embed, or None for this process.
        tls: certificates for it.
        connection: its headers, and how long to wait for each answer.
    """
    cores = usable_cores()
    yield Finding(
        "Python", "ok",
        f"{platform.python_version()}, vireo {__version__}, {platform.system()} "
        f"{platform.machine()}, {cores} usable core{'s' if cores > 1 else ''}",
    )  # fmt: skip
    yield from _builds(in_process=triton is None)
    yield from _optional_packages()
    yield from _gpu()
    yield from _triton_here()
    if triton is not None:
        yield from _servers(triton, tls, connection or ConnectionOptions())
    yield from _use(index, model, triton)


def _builds(*, in_process: bool) -> Iterator[Finding]:
    """Look for FAISS and ONNX Runtime; without Triton both are needed."""
    for library, load in (("FAISS", import_faiss), ("ONNX Runtime", import_onnxruntime)):
        builds = [
            f"{name} {found}" for name in BUILDS[library] if (found := installed_version(name))
        ]
        try:
            module = load()
        except MissingExtraError as error:
            needed = library == "FAISS" or in_process
            use = "a search needs it" if needed else "only towers in this process need it"
            yield Finding(library, "broken" if needed else "missing", f"none; {use}", str(error))
        except VireoError as error:
            yield Finding(library, "broken", ", ".join(builds), str(error))
        else:
            yield Finding(library, "ok", ", ".join(builds) or str(module.__version__))
    for message in clashing_builds():
        yield Finding("Builds", "broken", "two builds of one library", message)


def _optional_packages() -> Iterator[Finding]:
    for name, extra in _OPTIONAL.items():
        found = installed_version(name)
        advice = None if found else f"pip install 'vireo[{extra}]' for what needs it"
        yield Finding(name, "ok" if found else "missing", found or "not installed", advice)


def _gpu() -> Iterator[Finding]:
    """Look for an NVIDIA GPU, and for what could compute on it."""
    cards, reason = _cards()
    if not cards:
        yield Finding("GPU", "missing", f"none that can be used: {reason}", "all runs on the CPU")
    for card in cards:
        yield Finding("GPU", "ok", card)
    for name, found, usable in _on_gpu():
        advice = None
        if cards and not usable:
            found = f"{found}; the GPU is not used"
            advice = "pip uninstall faiss-cpu onnxruntime, then pip install 'vireo[gpu]'"
        yield Finding(name, "ok" if usable else "missing", found, advice)
    yield Finding("bf16", *_bf16())


def _cards() -> tuple[list[str], str]:
    """Return what `nvidia-smi` lists: name, driver, memory; or why it lists none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], "nvidia-smi, which comes with NVIDIA's driver, is not installed"
    fields = "--query-gpu=name,driver_version,memory.total"
    try:
        done = subprocess.run(
            [program, fields, "--format=csv,noheader"], capture_output=True, text=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi: {first_line(error)}"
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        return [], f"nvidia-smi: {lines[0] if lines else f'exit code {done.returncode}'}"
    return lines, "nvidia-smi lists none"


def _on_gpu() -> Iterator[tuple[str, str, bool]]:
    """Yield, of FAISS and ONNX Runtime where they import, what they can run on."""
    try:
        count = getattr(import_faiss(), "get_num_gpus", lambda: 0)()
        yield "FAISS on GPUs", f"it sees {count}", count > 0
    except VireoError:
        pass  # reported with the builds
    try:
        providers = import_onnxruntime().get_available_providers()
        on_gpu = bool({"CUDAExecutionProvider", "TensorrtExecutionProvider"} & set(providers))
        yield "ONNX Runtime providers", ", ".join(providers), on_gpu
    except VireoError:
        pass


def _bf16() -> tuple[State, str]:
    """Say whether this CPU multiplies bf16, as `vireo train` asks before it chooses a precision."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return "ok", "unknown for this system's CPU; `vireo train` asks PyTorch"
    found = sorted({"amx_tile", "amx_bf16", "avx512_bf16"} & flags)
    if found:
        return "ok", f"the CPU multiplies it ({', '.join(found)}); `vireo train` uses it"
    return "ok", "the CPU does not multiply it; `vireo train` uses fp32 on the CPU"


def _triton_here() -> Iterator[Finding]:
    """Look for a Triton that `vireo serve` could start."""
    carrier = environment.carrier_folder()
    if program := shutil.which("tritonserver"):
        yield Finding("Triton to start", "ok", program)
    elif (carrier / environment.CARRIER_BINARY).is_file():
        yield Finding("Triton to start", "ok", f"the carrier in {carrier}")
    else:
        yield Finding(
            "Triton to start", "missing", f"no tritonserver on PATH, no carrier in {carrier}",
            "`vireo serve` fetches the carrier when it is first run; searching needs none",
        )  # fmt: skip


def _servers(
    triton: str, tls: ClientTls | None, connection: ConnectionOptions
) -> Iterator[Finding]:
    """Ask the servers that would embed."""
    try:
        addresses = read_addresses(triton, tls)
    except VireoError as error:
        yield Finding("Triton", "broken", triton, str(error))
        return
    import tritonclient.grpc as grpc
    from tritonclient.utils import InferenceServerException

    asking = {"client_timeout": connection.connect_timeout, "headers": dict(connection.headers)}
    for url, one_tls in addresses:
        topic = f"Triton at {url}"
        try:
            arguments = one_tls.channel_arguments() if one_tls else {}
            with grpc.InferenceServerClient(url, **arguments) as client:
                waiting = [
                    name
                    for name in (TEXT_MODEL, IMAGE_MODEL)
                    if not client.is_model_ready(name, **asking)
                ]
                about = client.get_server_metadata(**asking)
                served = client.get_model_config(TEXT_MODEL, **asking)
        except VireoError as error:
            yield Finding(topic, "broken", "no connection", str(error))
        except InferenceServerException as error:
            advice = "start one with `vireo serve REPOSITORY`; is it grpcs://, and the gRPC port?"
            found = connection.without_secrets(str(error.message()))
            yield Finding(topic, "broken", found, advice)
        else:
            bundle = served.config.parameters[BUNDLE_PARAMETER].string_value or "unknown"
            found = f"version {about.version}, bundle {bundle}"
            if waiting:
                found = f"{' and '.join(waiting)} not ready, {found}"
                yield Finding(topic, "broken", found, "wait until it has loaded, or read its log")
            else:
                yield Finding(topic, "ok", f"ready, {found}")


def _use(index: Path | None, model: Path | None, triton: str | None) -> Iterator[Finding]:
    """Say what a search would use."""
    if triton is not None:
        yield Finding("Towers", "ok", f"embedded by Triton at {triton}")
    else:
        found = f"embedded in this process by ONNX Runtime, {usable_cores()} threads"
        yield Finding("Towers", "ok", found)
    if index is None and model is None:
        yield Finding(
            "Index", "missing", "none was named, and there is none at the default place",
            "`vireo index FOLDER --model REPOSITORY` makes one; --index names one",
        )  # fmt: skip
        return
    try:
        from .index.bundle_files import open_bundle  # needs FAISS

        bundle = open_bundle(index or "", model, engines=triton is None)
        yield Finding("Model", "ok", f"{bundle.folder}, bundle {bundle.bundle_id}")
    except VireoError as error:
        yield Finding("Model", "broken", str(model or index), str(error))
        return
    if triton is None:
        yield _engines(bundle)
    yield _segmenter(bundle)
    if index is not None:
        yield _opened(index, bundle)


def _engines(bundle: Bundle) -> Finding:
    """Look for the files of the towers; they are not loaded, which may take seconds."""
    try:
        files = [model_file(bundle.folder, model) for model in (TEXT_MODEL, IMAGE_MODEL)]
        size = sum(file.stat().st_size for file in files) / 1e6
    except (VireoError, OSError) as error:
        advice = "write them with `vireo export`, or embed through Triton with --triton"
        return Finding("Engines", "broken", str(error), advice)
    return Finding("Engines", "ok", f"{' and '.join(map(str, files))}, {size:,.1f} MB")


def _segmenter(bundle: Bundle) -> Finding:
    name = bundle.config.text.segmenter
    try:
        TextPath.from_bundle(bundle)
    except VireoError as error:
        return Finding("Segmenter", "broken", name, str(error))
    return Finding("Segmenter", "ok", name)


def _opened(index: Path, bundle: Bundle) -> Finding:
    try:
        from .index.maintenance import info
        from .index.reader import Index

        with Index(index, bundle) as opened:
            kinds = " and ".join(dict.fromkeys(info(index).kinds.values()))
            found = f"{index}: {len(opened)} images, {opened.captions} captions, kind {kinds}"
    except VireoError as error:
        return Finding("Index", "broken", str(index), str(error))
    return Finding("Index", "ok", found)


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Return whether nothing that is needed, or was asked for, is broken."""
    return all(finding.state != "broken" for finding in findings)
