"""Options that commands share are the same in each."""

import pytest
import typer
from typer.testing import CliRunner
from vireo_client import environment
from vireo_client.commands.index.add import add
from vireo_client.commands.search import search


def _options(function):
    """Return the options of a command by their first name."""
    app = typer.Typer()
    app.command()(function)
    parameters = typer.main.get_command(app).params
    return {parameter.opts[0]: parameter for parameter in parameters}


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("--index", environment.INDEX),
        ("--triton", environment.TRITON),
        ("--tls-ca", environment.TLS_CA),
        ("--tls-cert", environment.TLS_CERT),
        ("--tls-key", environment.TLS_KEY),
        ("--request-timeout", environment.REQUEST_TIMEOUT),
        ("--connect-timeout", environment.CONNECT_TIMEOUT),
        ("--retries", environment.RETRIES),
        ("--header", None),
        ("--json", None),
    ],
)
def test_index_and_search_share_their_options(name, variable):
    first, second = (_options(function)[name] for function in (add, search))
    assert first.envvar == second.envvar == variable
    assert first.help == second.help
    assert first.default == second.default


def test_captions_is_the_new_name_of_sentences():
    assert _options(search)["--captions"].opts == ["--captions", "--sentences"]
    app = typer.Typer()
    app.command()(search)
    for name in ("--captions", "--sentences"):
        result = CliRunner().invoke(app, ["con chó", "--image", "x.jpg", name])
        assert result.exit_code == 2
        assert "and not both" in result.output
