"""What the commands say to Triton: headers, patience, retries."""

import grpc
import pytest
import typer
from support.triton_standin import Service, standing_in
from typer.testing import CliRunner
from vireo_client import environment
from vireo_client.commands.doctor import doctor
from vireo_client.commands.embed import embed
from vireo_client.commands.index import index
from vireo_client.commands.options import connection_from
from vireo_client.commands.search import search
from vireo_client.errors import ServerError, ServerTimeout, ServerUnavailable

SECRET = "Bearer s3cret-token"
app = typer.Typer()
app.command("search")(search)
app.command("embed")(embed)
app.command("doctor")(doctor)
app.add_typer(index, name="index")


class Guarded(Service):
    """Asks for a token, and quotes what it was given instead."""

    def ModelReady(self, request, context):  # noqa: N802
        given = dict(context.invocation_metadata()).get("authorization", "")
        if self.guarded and given != SECRET:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{given!r} is not known")
        return super().ModelReady(request, context)


@pytest.fixture
def service(repository):
    service = Guarded(repository.bundle_id)
    service.guarded = False
    return service


@pytest.fixture
def run(service, monkeypatch):
    """Run a command against a server that stands in for Triton."""
    for name in (environment.HEADERS, environment.REQUEST_TIMEOUT, environment.RETRIES):
        monkeypatch.delenv(name, raising=False)
    with standing_in(service) as url:

        def invoke(*words):
            return CliRunner().invoke(app, [*map(str, words), "--triton", url])

        yield invoke


def _sent(service):
    return [metadata.get("authorization") for metadata in service.metadata]


def test_headers_go_with_a_search_from_the_line_a_file_or_the_environment(
    run, service, made, tmp_path, monkeypatch
):
    words = ("search", "con chó", "--index", made)
    file = tmp_path / "headers"
    file.write_text(f"x-tenant: 7\n\nAuthorization: {SECRET}\n")
    monkeypatch.setenv(environment.HEADERS, "authorization: of the environment\nx-tenant: 8")
    assert run(*words).exit_code == 0
    assert run(*words, "--header", f"@{file}").exit_code == 0
    assert run(*words, "--header", "Authorization:on the line").exit_code == 0
    assert _sent(service) == ["of the environment", SECRET, "on the line"]
    assert [sent.get("x-tenant") for sent in service.metadata] == ["8", "7", None]


def test_headers_go_with_the_commands_that_embed_and_with_the_doctor(
    run, service, repository, photos, tmp_path
):
    header = ("--header", f"authorization: {SECRET}")
    model = ("--model", repository.folder)
    service.guarded = True
    added = run("index", "add", photos, "--index", tmp_path / "index", *model, *header)
    assert added.exit_code == 0, added.output
    embedded = run("embed", photos, "--out", tmp_path / "embeddings", *model, *header)
    assert embedded.exit_code == 0, embedded.output
    assert set(_sent(service)) == {SECRET}
    assert "ready, version" in run("doctor", *header).output
    shown = run("doctor", "--header", "authorization: Bearer other").output
    assert "'***' is not known" in shown
    assert "other" not in shown


def test_patience_and_retries(run, service, made):
    words = ("search", "con chó", "--index", made)
    service.failure = (grpc.StatusCode.UNAVAILABLE, "away")
    assert isinstance(run(*words, "--retries", "0").exception, ServerUnavailable)
    assert len(service.requests) == 1
    service.failure = (grpc.StatusCode.DEADLINE_EXCEEDED, "late")
    assert isinstance(run(*words, "--request-timeout", "0.5").exception, ServerTimeout)
    (patience,) = {r.parameters["timeout"].int64_param > 500_000 for r in service.requests[1:]}
    assert not patience
    refused = run(*words, "--connect-timeout", "0").exception
    assert isinstance(refused, ServerError)
    assert "connect_timeout is 0" in str(refused)


def test_a_header_that_is_none_is_named_without_its_value(tmp_path, monkeypatch):
    (tmp_path / "words").write_text(SECRET)
    monkeypatch.setenv(environment.HEADERS, SECRET)
    for words, reason in (
        ([SECRET], "--header: a header has no colon"),
        ([f"@{tmp_path / 'words'}"], "words: a header has no colon"),
        (None, "VIREO_HEADERS: a header has no colon"),
        ([f"@{tmp_path / 'none'}"], "none: headers cannot be read"),
        ([f"the name: {SECRET}"], "header 'the name': its name"),
    ):
        with pytest.raises(ServerError, match=reason) as caught:
            connection_from(None, None, None, words)
        assert "s3cret" not in str(caught.value)
