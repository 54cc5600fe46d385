"""`vireo serve` and `vireo rollback`. Heavy imports stay inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from vireo_client.printing import say


def serve(
    repository: Annotated[Path | None, typer.Argument(help="The model repository that `vireo export` wrote.")] = None,
    host: Annotated[str, typer.Option(help="Address of gRPC and the metrics; 0.0.0.0 for all, as in a container.")] = "127.0.0.1",
    http_host: Annotated[str, typer.Option(help="Address of HTTP, which Triton cannot encrypt. Before Triton 25.07 one request over HTTP may end it: open it only to callers whom you trust.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8001,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8002,
    triton: Annotated[Path | None, typer.Option(help="A tritonserver binary; by default the one on PATH, else the carrier.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds in which all models must be ready, and in which a reload must load each.")] = 120.0,
    dead_after: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="An engine that answers nothing for so long counts as dead, and Triton is started anew; 0 sends engines no probes.")] = 60.0,
    reload: Annotated[bool, typer.Option(help="Reload the repository whenever it is published; SIGHUP reloads at once.")] = True,
    model_control: Annotated[bool, typer.Option(help="Load publications into the running Triton. Without, nobody can make it load a model, key or not; a publication is served by starting Triton anew, which takes seconds.")] = True,
    admin_key_file: Annotated[Path | None, typer.Option(help="File with the key to load models and change shared memory, traces and logs; else VIREO_ADMIN_KEY, else a random key.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate of the gRPC endpoint; HTTP and metrics stay without.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="Accept only clients with a certificate of this authority.")] = None,
    cache_size: Annotated[int, typer.Option(min=0, metavar="MIB", help="Triton's response cache; 0 for none. On target cpu the text tower has a cache of its own.")] = 64,
    trace_url: Annotated[str | None, typer.Option(metavar="URL", help="OpenTelemetry collector, such as http://127.0.0.1:4318/v1/traces.")] = None,
    trace_rate: Annotated[int, typer.Option(min=1, help="Trace one request in so many.")] = 1000,
    install_carrier: Annotated[bool, typer.Option("--install-carrier", help="Fetch a Triton binary for this machine (Linux, x86-64) and exit.")] = False,
) -> None:  # fmt: skip
    """Run a Triton Inference Server until Ctrl-C; reload the repository when it is published.

    A new version is loaded beside the one that is served and takes its place when it is ready. No
    request is lost, and a version that does not load changes nothing. An engine whose process dies
    is noticed within seconds, and Triton is started anew; after five restarts in ten minutes the
    command ends with an error, for whatever supervises it.

    Example: `vireo serve runs/demo/model_repository --grpc-port 9001`
    """
    if install_carrier:
        from .server import carrier

        say(f"Triton carrier: {carrier.install()}")
        return
    if repository is None:
        raise typer.BadParameter("give the model repository that `vireo export` wrote")
    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("--tls-cert and --tls-key go together")
    if tls_ca is not None and tls_cert is None:
        raise typer.BadParameter("--tls-ca needs --tls-cert and --tls-key")
    from .server.options import ServerOptions, ServerTls, read_key
    from .server.ports import Ports
    from .server.process import handling_signals
    from .server.server import TritonServer
    from .server.watch import watch

    options = ServerOptions(
        host=host,
        http_host=http_host,
        admin_key=read_key(admin_key_file),
        model_control=model_control,
        tls=ServerTls(tls_cert, tls_key, tls_ca) if tls_cert and tls_key else None,
        cache_mib=cache_size,
        trace_url=trace_url,
        trace_rate=trace_rate,
    )
    with handling_signals() as reload_requested:
        with TritonServer(
            repository,
            ports=Ports(http_port, grpc_port, metrics_port),
            options=options,
            binary=triton,
            timeout=timeout,
        ) as server:
            say(f"Triton {server.version} is ready; log: {server.log_path}")
            say(f"gRPC {server.url}   HTTP {server.http_url}   metrics {server.metrics_url}")
            say(f'next: vireo search "..." --triton {server.url} --index INDEX')
            try:
                watch(
                    server,
                    reload_requested=reload_requested,
                    report=say,
                    new_publications=reload,
                    dead_after=dead_after,
                )
            except KeyboardInterrupt:
                say("stopping Triton")


def rollback(
    repository: Annotated[Path, typer.Argument(help="The model repository that `vireo export` wrote.")],
    to: Annotated[int | None, typer.Option(min=1, help="A kept version; by default the newest one older than the current.")] = None,
) -> None:  # fmt: skip
    """Make an older version of a model repository the current one.

    No version is removed: `--to` goes forward again. A running `vireo serve` reloads by itself.

    Example: `vireo rollback runs/mine/model_repository`
    """
    from vireo_client.repository import read_versions

    from .repository.rollback import rollback as run

    before = read_versions(repository).current
    version = run(repository, to)
    kept = ", ".join(map(str, read_versions(repository).kept))
    say(f"{repository}: version {version} is in use, {before} was (kept: {kept})")
