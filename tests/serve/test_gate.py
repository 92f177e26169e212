"""Requests are let in only if they are meant for this server and bring its token."""

import logging

import pytest
from serving import TOKEN

from salad.errors import InputError
from salad.serve import gate
from salad.serve.gate import Gate, make_token, read_token


def status_of(asked: Gate, path="/score", **headers) -> int:
    found = asked.check(path, headers)
    assert found is None or "\n" not in found.reason
    return 200 if found is None else found.status


@pytest.mark.parametrize(
    ("host", "from_here", "from_elsewhere"),
    [
        ("localhost:8765", 200, 200),
        ("LocalHost", 200, 200),
        ("127.0.0.1:8765", 200, 200),
        ("[::1]:8765", 200, 200),
        ("salad.example", 200, 200),  # by --allow_host
        ("own.name:8765", 421, 200),
        ("10.1.2.3:8765", 421, 200),  # an address: nobody can make it point elsewhere
        ("evil.example", 421, 421),
        ("salad.example.evil.example", 421, 421),
        ("localhost.evil.example", 421, 421),
        ("127.0.0.1.evil.example", 421, 421),
        ("evil.example:80@localhost", 421, 421),
        ("[::1", 421, 421),
        ("", 421, 421),
    ],
)
def test_the_server_answers_to_its_own_names(monkeypatch, host, from_here, from_elsewhere):
    monkeypatch.setattr(gate.socket, "gethostname", lambda: "Own.Name")
    for is_loopback, expected in ((True, from_here), (False, from_elsewhere)):
        assert status_of(Gate(names=["Salad.Example"], is_loopback=is_loopback, token=None), host=host) == expected


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8765", 200),
        ("https://LOCALHOST:8765", 200),  # by a proxy that speaks https
        ("http://localhost:9000", 403),
        ("http://evil.example", 403),
        ("https://localhost:8765.evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
        ("http://[evil]:8765", 403),
    ],
)
def test_a_page_of_another_site_is_refused(origin, status):
    asked = Gate(names=[], is_loopback=True, token=None)
    assert status_of(asked, host="localhost:8765", origin=origin) == status


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN}", 200),
        (TOKEN, 401),
        (f"Basic {TOKEN}", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer \xe9\xdf", 401),
        ("Bearer ", 401),
        ("", 401),
    ],
)
def test_films_need_the_token_and_the_page_does_not(authorization, status):
    asked = Gate(names=[], is_loopback=False, token=TOKEN)
    headers = {"host": "localhost", "authorization": authorization}
    assert status_of(asked, **headers) == status
    assert status_of(asked, "/elsewhere", **headers) == status
    assert status_of(asked, "/", **headers) == status_of(asked, "/health", **headers) == 200
    assert TOKEN not in str(asked.check("/score", headers))


def test_a_token_comes_from_the_first_line_of_a_file(tmp_path, caplog):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN} \nnothing else\n", encoding="utf-8")
    file.chmod(0o600)
    with caplog.at_level(logging.WARNING):
        assert read_token(file) == TOKEN and not caplog.records
        file.chmod(0o644)
        assert read_token(file) == TOKEN and "chmod 600" in caplog.text
    assert TOKEN not in caplog.text
    assert len(make_token()) > 40 and make_token() != make_token()


@pytest.mark.parametrize(
    "text", ["", "\n", "short\n", "with a space in between\n", "not-ascii-\xe9\xe9\xe9\xe9\xe9\n", "x" * 2000]
)
def test_a_file_without_a_token_is_refused(tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="--token_file") as caught:
        read_token(file)
    assert text.strip() not in str(caught.value) or not text.strip()
    with pytest.raises(InputError, match="cannot be read"):
        read_token(tmp_path / "none")
