"""Options of a connection and addresses, before anything is connected."""

import subprocess
import sys

import pytest
from vireo_client.errors import ServerError
from vireo_client.towers.connection import ConnectionOptions, read_addresses
from vireo_client.towers.shared_memory import is_loopback
from vireo_client.towers.tls import ClientTls

PASSWORD = "Bearer 0123-a-secret"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"connect_timeout": 0}, "connect_timeout is 0; give a number from 0.001"),
        ({"request_timeout": float("nan")}, "request_timeout is nan"),
        ({"request_timeout": "60"}, "request_timeout is '60'"),
        ({"retries": -1}, "retries is -1; give a whole number from 0"),
        ({"retries": 1.5}, "retries is 1.5"),
        ({"retries": True}, "retries is True"),
        ({"max_message_bytes": 10}, "max_message_bytes is 10; give a whole number from 65536"),
        ({"join_window": -1}, "join_window"),
        ({"shared_memory": "posix"}, "shared_memory is 'posix'; give system, cuda or None"),
        ({"headers": {"Authorization": "x"}}, "header 'Authorization': its name"),
        ({"headers": {"token-bin": "x"}}, "header 'token-bin': its name"),
        ({"headers": {"authorization": PASSWORD + "\n"}}, "line break"),
        ({"headers": {"authorization": b"x"}}, "printable ASCII"),
    ],
)
def test_an_option_that_cannot_be_is_named(wrong, message):
    with pytest.raises(ServerError, match=message) as error:
        ConnectionOptions(**wrong)
    assert "0123" not in str(error.value)


def test_the_values_of_headers_are_not_shown():
    options = ConnectionOptions(headers={"authorization": PASSWORD})
    assert "0123" not in repr(options)
    assert options.with_given(connect_timeout=1.0, request_timeout=None) == ConnectionOptions(
        headers={"authorization": PASSWORD}, connect_timeout=1.0
    )


def test_an_outage_costs_a_second_more_at_most():
    arguments = dict(ConnectionOptions(connect_timeout=3).channel_arguments())
    assert arguments["grpc.max_reconnect_backoff_ms"] == 1000
    assert arguments["grpc.min_reconnect_backoff_ms"] == 3000
    quick = dict(ConnectionOptions(max_reconnect_backoff=0.05).channel_arguments())
    assert quick["grpc.initial_reconnect_backoff_ms"] == 50


def test_addresses_are_joined_by_commas_or_given_as_a_sequence():
    assert read_addresses("a:1", None) == [("a:1", None)]
    assert read_addresses("a:1, grpc://b:2", None) == [("a:1", None), ("b:2", None)]
    assert read_addresses(["a:1", "b:2"], None) == [("a:1", None), ("b:2", None)]
    tls = ClientTls("ca.pem")
    assert read_addresses("a:1,grpcs://b:2", tls) == [("a:1", tls), ("b:2", tls)]


def test_one_scheme_with_tls_holds_for_the_addresses_without_a_scheme():
    assert read_addresses("grpcs://a:1,b:2", None) == [("a:1", ClientTls()), ("b:2", ClientTls())]
    assert read_addresses("grpcs://a:1,grpc://b:2", None) == [("a:1", ClientTls()), ("b:2", None)]


@pytest.mark.parametrize(
    ("url", "message"),
    [("", "no address"), ("a:1,", "no address"), ([], "no address"), ("a:1,a:1", "given twice")],
)
def test_addresses_that_cannot_be_are_named(url, message):
    with pytest.raises(ServerError, match=message):
        read_addresses(url, None)


@pytest.mark.parametrize(
    ("url", "here"),
    [("127.0.0.1:8001", True), ("127.3.4.5:1", True), ("[::1]:8001", True), ("localhost:1", True),
     ("10.0.0.1:8001", False), ("localhost.example.org:1", False), ("[fe80::1]:1", False)],
)  # fmt: skip
def test_shared_memory_is_for_loopback_addresses(url, here):
    assert is_loopback(url) is here


def test_options_need_no_grpc():
    program = (
        "import sys; from vireo_client.towers.connection import ConnectionOptions; "
        "ConnectionOptions(retries=1); assert not {'grpc', 'tritonclient'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
