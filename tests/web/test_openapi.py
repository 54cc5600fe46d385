"""The OpenAPI document says what the API does: drawn requests are answered as it says."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from support.web_process import serving

schemathesis = pytest.importorskip("schemathesis", reason="needs the schemathesis package")


@pytest.fixture(scope="module")
def document(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("roots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        with serving(made, "--root", folder) as web:
            yield schemathesis.openapi.from_url(f"{web.address}/openapi.json")


_CHECKS = ("not_a_server_error", "response_schema_conformance", "content_type_conformance",
           "status_code_conformance")  # fmt: skip


def test_drawn_requests_are_answered_as_the_document_says(document):
    checks = [getattr(schemathesis.checks, name) for name in _CHECKS]
    drawn = 0

    def check(case):
        nonlocal drawn
        drawn += 1
        case.call_and_validate(checks=checks, timeout=60)

    for operation in document.get_all_operations():
        few = settings(
            max_examples=6,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        few(given(case=operation.ok().as_strategy())(check))()
    assert drawn > 80


def test_every_operation_has_a_summary_and_what_it_takes_an_example(client):
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary"), (method, path)
            assert operation.get("description"), (method, path)
    schemas = document["components"]["schemas"]
    for name in ("SearchByJson", "IndexRequest", "DownloadRequest", "EmbedTextRequest",
                 "EmbeddingsRequest"):  # fmt: skip
        assert "example" in str(schemas[name]), name
