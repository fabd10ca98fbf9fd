"""How the data plane's own line finds the brokers."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tidemill.bus.line import connecting
from tidemill.settings import Settings


def told(**table: str) -> dict[str, object]:
    names = {name.replace("_", "."): value for name, value in table.items()}
    return connecting(Settings(kafka="a:1, b:2", librdkafka=names), "serving")


def test_without_more_it_connects_as_it_is() -> None:
    found = told()
    assert (found["bootstrap_servers"], found["client_id"]) == (["a:1", "b:2"], "tidemill-serving")
    assert (found["security_protocol"], found["ssl_context"]) == ("PLAINTEXT", None)


@pytest.mark.parametrize("name", ["sasl_mechanism", "sasl_mechanisms"])
def test_names_and_passwords_pass_through(name: str) -> None:
    found = told(security_protocol="sasl_plaintext", sasl_username="who", sasl_password="what", **{name: "SCRAM-SHA-256"})
    assert (found["security_protocol"], found["sasl_mechanism"]) == ("SASL_PLAINTEXT", "SCRAM-SHA-256")
    assert (found["sasl_plain_username"], found["sasl_plain_password"]) == ("who", "what")


def test_an_encrypted_line_checks_who_answers() -> None:
    context = told(security_protocol="ssl")["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


def test_what_is_not_to_be_checked_is_not() -> None:
    any_name = told(security_protocol="ssl", ssl_endpoint_identification_algorithm="none")["ssl_context"]
    assert isinstance(any_name, ssl.SSLContext)
    assert not any_name.check_hostname and any_name.verify_mode is ssl.CERT_REQUIRED
    anybody = told(security_protocol="ssl", enable_ssl_certificate_verification="false")["ssl_context"]
    assert isinstance(anybody, ssl.SSLContext)
    assert not anybody.check_hostname and anybody.verify_mode is ssl.CERT_NONE


def test_a_ca_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        told(security_protocol="sasl_ssl", ssl_ca_location=str(tmp_path / "none.pem"), sasl_username="a", sasl_password="b")
