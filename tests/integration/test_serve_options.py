"""The options of a server: keys, TLS, traces, the response cache, the address."""

import gzip
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from support.waiting import wait_until
from tritonclient.utils import InferenceServerException
from vireo_client.errors import ServerError
from vireo_client.index import IndexWriter
from vireo_client.indexing.pipeline import index_images
from vireo_client.search import SearchClient, open_embedder
from vireo_client.towers.tls import ClientTls
from vireo_client.towers.triton import TritonTowers
from vireo_serving.server.options import ServerOptions, ServerTls, read_key
from vireo_serving.server.ports import Ports, claim
from vireo_serving.server.server import TritonServer

FREE = Ports(0, 0, 0)
KEY = "a-key-that-the-test-made-up"


@pytest.fixture(scope="module")
def index(repository, test_records, tmp_path_factory):
    """An index made in this process."""
    folder = tmp_path_factory.mktemp("index") / "index"
    with open_embedder(repository, None) as embedder:
        with IndexWriter(folder, repository) as target:
            index_images(target, embedder, test_records[:8])
    return folder


@pytest.fixture(scope="module")
def secure(repository, certificates):
    """A server with TLS."""
    tls = ServerTls(certificates / "server.pem", certificates / "server.key")
    with TritonServer(repository.folder, ports=FREE, options=ServerOptions(tls=tls)) as server:
        yield server


def test_a_search_through_tls_finds_what_a_search_without_finds(secure, certificates, index):
    assert secure.url.startswith("grpcs://127.0.0.1:")
    with SearchClient(index) as client:
        expected = [match.path for match in client.search("con cá màu đỏ", k=3)]
    with SearchClient(index, triton=secure.url, tls=ClientTls(certificates / "ca.pem")) as client:
        assert [match.path for match in client.search("con cá màu đỏ", k=3)] == expected


def test_the_command_line_searches_through_tls(secure, certificates, index):
    code = "from vireo_client.cli import main; main()"
    words = ["search", "con cá", "--index", index, "--triton", secure.url]
    run = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(
        [*run, "--tls-ca", str(certificates / "ca.pem")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8
    done = subprocess.run(
        [*run, "--tls-ca", str(certificates / "other.pem")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "not signed by the authority that was given" in done.stderr


def test_another_authority_is_named_as_the_trouble(secure, repository, certificates):
    with pytest.raises(ServerError, match=r"not signed by the authority .* --tls-ca"):
        TritonTowers(repository, secure.url, tls=ClientTls(certificates / "other.pem"))


def test_a_client_without_tls_gets_that_as_the_reason(secure, repository):
    with pytest.raises(ServerError, match=r"if it speaks TLS, say grpcs://"):
        TritonTowers(repository, secure.url.removeprefix("grpcs://"), connect_timeout=2)


def test_tls_to_a_server_without_it_names_the_reason(triton, repository, certificates):
    with pytest.raises(ServerError, match="does it speak TLS"):
        TritonTowers(
            repository, f"grpcs://{triton.url}", tls=ClientTls(certificates / "ca.pem"),
            connect_timeout=2,
        )  # fmt: skip


def test_with_tls_reload_works_and_http_stays_inside(secure):
    assert secure.http_url.startswith("http://127.0.0.1:")
    before = secure.publication.bundle_id
    assert secure.reload().bundle_id == before


def test_mutual_tls_lets_in_only_clients_with_a_certificate(repository, certificates):
    ca = certificates / "ca.pem"
    tls = ServerTls(certificates / "server.pem", certificates / "server.key", client_ca=ca)
    known = ClientTls(ca, certificates / "client.pem", certificates / "client.key")
    ids = np.full((1, 16), 5, dtype=np.int32)
    with TritonServer(repository.folder, ports=FREE, options=ServerOptions(tls=tls)) as server:
        assert TritonTowers(repository, server.url, tls=known).encode_text(ids).shape[0] == 1
        with pytest.raises(ServerError, match=r"Triton at"):
            TritonTowers(repository, server.url, tls=ClientTls(ca), connect_timeout=2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("server.pem", "gone.key"), r"gone\.key: cannot be read"),
        (("server.pem", "names"), "names: no PEM file"),
    ],
)
def test_bad_certificate_files_are_named(certificates, files, message):
    cert, key = (certificates / file for file in files)
    with pytest.raises(ServerError, match=message):
        ServerTls(cert, key)
    with pytest.raises(ServerError, match=message):
        ClientTls(None, cert, key).channel_arguments()


def test_a_clients_certificate_needs_its_key(tmp_path):
    with pytest.raises(ServerError, match="go together"):
        ClientTls(cert=tmp_path / "a.pem").channel_arguments()


def test_a_key_of_the_operator_opens_what_is_restricted(repository):
    with TritonServer(
        repository.folder, ports=FREE, options=ServerOptions(admin_key=KEY)
    ) as server:
        client = grpc.InferenceServerClient(server.url)
        name = "triton-grpc-protocol-vireo-admin-key"
        assert client.get_model_repository_index(headers={name: KEY}).models
        with pytest.raises(InferenceServerException, match="restricted"):
            client.get_model_repository_index(headers={name: KEY + "x"})
        request = urllib.request.Request(
            f"{server.http_url}/v2/repository/index", data=b"", method="POST"
        )
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request)
        request.add_header("vireo-admin-key", KEY)
        with urllib.request.urlopen(request) as answer:
            assert b"text_encoder" in answer.read()
        assert server.reload()


def test_where_the_key_comes_from(tmp_path, monkeypatch):
    monkeypatch.delenv("VIREO_ADMIN_KEY", raising=False)
    first, second = read_key(None), read_key(None)
    assert len(first) >= 32
    assert first != second
    monkeypatch.setenv("VIREO_ADMIN_KEY", "")
    assert len(read_key(None)) >= 32
    monkeypatch.setenv("VIREO_ADMIN_KEY", "from-the-environment-0")
    assert read_key(None) == "from-the-environment-0"
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_key(file) == KEY
    assert KEY not in repr(ServerOptions(admin_key=KEY))


@pytest.mark.parametrize("key", ["short", "has a space in the middle", "with,commas=and-more", ""])
def test_a_bad_key_is_refused_without_showing_it(tmp_path, key):
    file = tmp_path / "key"
    file.write_text(key)
    with pytest.raises(ServerError, match="an admin key has 16 characters") as error:
        read_key(file)
    assert not key or key not in str(error.value)
    with pytest.raises(ServerError, match="cannot be read"):
        read_key(tmp_path / "gone")


@pytest.fixture
def collector():
    """An OpenTelemetry collector as far as a client sees it: takes what is posted to it."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            bodies.append((self.path, gzip.decompress(body) if packed else body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_traces_reach_the_collector(repository, collector):
    url, bodies = collector
    options = ServerOptions(trace_url=url, trace_rate=1)
    with TritonServer(repository.folder, ports=FREE, options=options) as server:
        towers = TritonTowers(repository, server.url)
        towers.encode_text(np.full((1, 16), 5, dtype=np.int32))
        wait_until(lambda: bodies)
    path, _ = bodies[0]
    assert path == "/v1/traces"
    spans = b"".join(body for _, body in bodies)
    assert b"text_encoder" in spans
    assert b"vireo" in spans  # service.name


def _metrics(server):
    with urllib.request.urlopen(server.metrics_url, timeout=60) as answer:
        return answer.read().decode()


def test_metrics_have_quantiles(triton, repository):
    TritonTowers(repository, triton.url).encode_text(np.full((1, 16), 5, dtype=np.int32))
    text = _metrics(triton)
    assert (
        'nv_inference_request_summary_us{model="text_encoder",version="1",quantile="0.99"}' in text
    )


def test_flags_follow_the_options():
    ports = Ports(1, 2, 3)
    plain = list(ServerOptions(cache_mib=0, admin_key=KEY).flags(ports))
    assert not [
        flag for flag in plain if "cache" in flag or "trace-config" in flag or "ssl" in flag
    ]
    assert f"--cache-config=local,size={5 << 20}" in ServerOptions(cache_mib=5).flags(ports)
    flags = list(ServerOptions(host="0.0.0.0").flags(ports))
    assert {f"--{what}-address=0.0.0.0" for what in ("grpc", "http", "metrics")} <= set(flags)


def test_a_host_that_is_not_of_this_machine_is_refused():
    with pytest.raises(ServerError, match=r"--host 192\.0\.2\.1: not an address of this machine"):
        claim(FREE, "192.0.2.1")
    with pytest.raises(ServerError, match="not an address"):
        claim(FREE, "no.such.host.invalid")


def test_all_addresses_can_be_listened_on(repository):
    with TritonServer(
        repository.folder, ports=FREE, options=ServerOptions(host="0.0.0.0")
    ) as server:
        assert server.url.startswith("127.0.0.1:")
        TritonTowers(repository, server.url)
        table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        wanted = f":{server.ports.grpc:04X}"
        heard = [line.split()[1] for line in table.splitlines() if f"{wanted} " in line]
        assert any(set(address.split(":")[0]) == {"0"} for address in heard)
        with pytest.raises(ServerError, match="in use"):
            claim(Ports(server.ports.http, 0, 0), "0.0.0.0")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tls-cert", "a.pem"], "go together"),
        (["--tls-ca", "a.pem"], "needs --tls-cert"),
        (["--host", "192.0.2.1"], "not an address of this machine"),
        (["--admin-key-file", "gone"], "cannot be read"),
    ],
)
def test_vireo_serve_refuses_what_does_not_go_together(repository, words, message, tmp_path):
    code = "from vireo_client.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", str(repository.folder), *words],
        capture_output=True, text=True, cwd=tmp_path, env=None,
    )  # fmt: skip
    assert done.returncode != 0
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_a_port_taken_on_one_address_only_is_free_elsewhere():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(1)
        port = held.getsockname()[1]
        with pytest.raises(ServerError, match=rf"port {port} \(http\) is in use on 127"):
            claim(Ports(port, 0, 0), "127.0.0.1")
        assert claim(Ports(port, 0, 0), "127.0.0.2").http == port


@pytest.mark.parametrize("endpoint", ["grpc", "http"])
def test_a_free_port_that_another_program_takes_meanwhile_is_chosen_again(
    repository, monkeypatch, endpoint
):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        claims = []

        def overtaken(ports, host):
            claims.append(claim(ports, host))
            taken = {endpoint: other.getsockname()[1]} if len(claims) == 1 else {}
            return replace(claims[-1], **taken)

        monkeypatch.setattr("vireo_serving.server.server.claim", overtaken)
        with TritonServer(repository.folder, ports=FREE) as server:
            assert server.ports == claims[1]
        claims.clear()
        with pytest.raises(ServerError, match="in use"):
            TritonServer(repository.folder, ports=claim(FREE, "127.0.0.1"))
        assert len(claims) == 1
