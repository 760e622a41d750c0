"""Which certificates the gateway accepts, and how they reach the edge."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rescoldo.edge import certificate, config, process
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.settings import Settings
from support.certificates import Authority, Pair, put_haproxy_on_path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.pair("one", "DNS:fn.example")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings(str(tmp_path / "d"), str(tmp_path / "r"), slots=5, tls_cert=str(tmp_path / "bundle.pem"))
    (tmp_path / "r" / "s").mkdir(parents=True)
    config.write(found, 5)
    return found


def source(settings: Settings) -> Path:
    assert settings.tls_cert is not None
    return Path(settings.tls_cert)


def test_a_bundle_is_copied_and_readable_by_this_user_alone(settings, pair):
    pair.bundle(source(settings))
    assert certificate.install(settings) is True
    assert settings.certificate.read_text() == pair.text()
    assert settings.certificate.stat().st_mode & 0o777 == 0o600
    assert certificate.install(settings) is False, "the certificate is unchanged"


def test_the_key_may_be_in_a_file_of_its_own(settings, pair):
    settings = replace(settings, tls_cert=str(pair.certificate), tls_key=str(pair.key))
    assert certificate.install(settings) is True
    assert "PRIVATE KEY" in settings.certificate.read_text()


def test_haproxy_accepts_the_installed_certificate(settings, pair, tmp_path, monkeypatch):
    put_haproxy_on_path(tmp_path, monkeypatch)
    pair.bundle(source(settings))
    certificate.install(settings)
    path = config.write(replace(settings, redirect="127.0.0.1:80"), 5)
    process.check(process.binary(tls=True), path)


def test_backends_that_pass_calls_on_mark_them_as_https(settings):
    backends = config.render(settings, 5).split("\nbackend ")
    for name in ("hold", "successor"):
        (backend,) = (text for text in backends if text.startswith(f"{name} "))
        assert config.FORWARD_HTTPS in backend.splitlines()


def broken(settings: Settings, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        certificate.install(settings)
    assert [path.name for path in settings.edge.glob("gateway.*")] == [], "a copy of the key was left behind"


def test_a_missing_file_is_named_with_its_flag(settings, pair):
    broken(settings, f"--tls-cert: {settings.tls_cert} cannot be read: No such file or directory")
    without = replace(settings, tls_cert=str(pair.certificate), tls_key="/none.key")
    broken(without, "--tls-key: /none.key cannot be read")


def test_a_key_of_another_certificate_is_refused(settings, pair, authority):
    other = authority.pair("two", "DNS:fn.example")
    broken(
        replace(settings, tls_cert=str(pair.certificate), tls_key=str(other.key)),
        f"--tls-cert {pair.certificate} and --tls-key {other.key}: the private key does not belong to the certificate",
    )


@pytest.mark.parametrize("kept", ["certificate", "key", ""])
def test_an_incomplete_bundle_is_refused_with_the_parts_that_belong_in_it(settings, pair, kept):
    source(settings).write_text(getattr(pair, kept).read_text() if kept else "junk\n")
    broken(settings, f"--tls-cert {settings.tls_cert}: write certificate, chain and private")


def test_an_encrypted_key_is_refused_without_a_prompt_for_its_password(settings, pair):
    locked = pair.key.with_suffix(".locked")
    words = ["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", str(pair.key), "-out", str(locked)]
    subprocess.run(words, check=True, capture_output=True)
    settings = replace(settings, tls_cert=str(pair.certificate), tls_key=str(locked))
    broken(settings, "the private key is encrypted")


def test_a_key_that_everybody_may_read_gets_a_warning(settings, pair):
    source(settings).write_text(pair.text())
    source(settings).chmod(0o600)
    assert certificate.warning(settings) == ""
    source(settings).chmod(0o644)
    assert f"chmod o-rwx {settings.tls_cert}" in certificate.warning(settings)
    beside = replace(settings, tls_key=str(pair.key))
    pair.key.chmod(0o600)
    assert certificate.warning(beside) == "", "the certificate is not secret"


def test_a_replaced_certificate_is_installed_and_a_broken_one_is_not(settings, pair, authority, tmp_path, monkeypatch):
    put_haproxy_on_path(tmp_path, monkeypatch)
    pair.bundle(source(settings))
    certificate.install(settings)
    config.write(settings, 5)
    assert certificate.renew(settings) is False
    other = authority.pair("two", "DNS:fn.example")
    other.bundle(source(settings))
    assert certificate.renew(settings) is True
    assert settings.certificate.read_text() == other.text()
    source(settings).write_text("junk\n")
    with pytest.raises(InvalidInput, match="write certificate, chain"):
        certificate.renew(settings)
    assert settings.certificate.read_text() == other.text()


def test_a_certificate_that_haproxy_refuses_is_not_installed(settings, pair, authority, monkeypatch):
    pair.bundle(source(settings))
    certificate.install(settings)
    authority.pair("two", "DNS:fn.example").bundle(source(settings))

    def refuse(*_: object) -> None:
        raise RescoldoError("no")

    monkeypatch.setattr(process, "check", refuse)
    monkeypatch.setattr(process, "binary", lambda tls: "haproxy")
    for _ in range(2):  # the new certificate stays pending
        with pytest.raises(RescoldoError, match="no"):
            certificate.renew(settings)
        assert settings.certificate.read_text() == pair.text()


def test_a_lost_copy_is_restored_and_a_missing_source_is_only_logged(settings, pair, caplog):
    pair.bundle(source(settings))
    certificate.restore(settings)
    assert settings.certificate.read_text() == pair.text()
    settings.certificate.unlink()
    source(settings).unlink()
    certificate.restore(settings)
    assert "cannot be read" in caplog.text


def test_tls_uses_the_machines_own_haproxy_wherever_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv("RESCOLDO_HAPROXY", raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr(process, "SYSTEM_FOLDERS", (str(tmp_path),))
    with pytest.raises(RescoldoError) as refused:
        process.binary(tls=True)
    for word in ("--tls-cert", "OpenSSL 3.0", "apt-get install haproxy", "$RESCOLDO_HAPROXY"):
        assert word in refused.value.message
    (tmp_path / "haproxy").touch(0o755)
    assert process.binary(tls=True) == str(tmp_path / "haproxy")
    assert process.binary() != str(tmp_path / "haproxy"), "without TLS the wheel's HAProxy is used"
    monkeypatch.setenv("RESCOLDO_HAPROXY", "/opt/haproxy")
    assert process.binary(tls=True) == "/opt/haproxy"


def test_the_gateway_speaks_http2_and_tls_1_2_and_redirects_to_its_port(settings):
    text = config.render(replace(settings, gateway="0.0.0.0:8443", redirect="0.0.0.0:80"), 1)
    assert f"ssl crt {settings.certificate} alpn h2,http/1.1 ssl-min-ver TLSv1.2" in text
    assert "redirect prefix https://%[req.hdr(host),host_only]:8443 code 308" in text
    assert "host_only] code 308" in config.render(replace(settings, gateway="0.0.0.0:443", redirect="0.0.0.0:80"), 1)


def test_without_a_certificate_the_configuration_has_no_tls(settings):
    text = config.render(replace(settings, tls_cert=None), 1)
    assert not re.search(r"\bssl|https|redirect prefix", text)
