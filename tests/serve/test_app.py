"""What the server answers, over real connections."""

import base64
import io
import json
import logging
import socket
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_files import DEFLATED, SECRET, dataset, written
from PIL import Image
from running import invoke
from serving import TOKEN, served, wait_until

import salad
from salad.cli import main
from salad.errors import InputError
from salad.scoring.stream import Scored
from salad.serve import app, server

DEEP = np.random.default_rng(0).integers(300, 5000, (70, 90), dtype=np.uint16)
GREY = np.uint8(DEEP >> 5)


def encoded(pixels: np.ndarray, kind: str, **how) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **how)
    return buffer.getvalue()


def with_size(png: bytes, *, side: int) -> bytes:
    """A PNG whose header claims another size, with the right check sum."""
    header = b"IHDR" + struct.pack(">II", side, side) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def deflation_bomb() -> bytes:
    whole = written(dataset(DEEP), DEFLATED)
    (length,) = struct.unpack_from("<I", whole, 140)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(2**24)
    return whole[: 144 + length] + b"".join(packer.compress(zeros) for _ in range(17)) + packer.flush()


GOOD = {
    "grey.png": encoded(GREY, "PNG"),
    "deep.png": encoded(DEEP, "PNG"),
    "film.jpg": encoded(np.tile(GREY, (4, 4)), "JPEG"),
    "float.tif": encoded(DEEP.astype(np.float32) / 7, "TIFF"),
    "film.dcm": written(dataset(DEEP, bits=13)),
}
BAD = {
    "notes.png": b"no film",
    "half.jpg": GOOD["film.jpg"][: len(GOOD["film.jpg"]) // 2],
    "half.dcm": GOOD["film.dcm"][:-900],
    "huge.png": with_size(GOOD["grey.png"], side=60_000),
    "bomb.dcm": deflation_bomb(),
    "zip.png": b"PK\3\4" + bytes(range(256)) * 4,
}


def test_a_film_gets_the_line_that_predict_writes(tmp_path, run, ask):
    for name, content in {**GOOD, **BAD}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "black.png").write_bytes(encoded(GREY // 255, "PNG"))
    words = ["--load_model", run.model, "--device", "cpu", "--format", "jsonl", "--out", tmp_path / "out.jsonl"]
    assert invoke(main, "predict", *words, tmp_path).exit_code == 0
    expected = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(expected) == len(GOOD) + len(BAD) + 1
    for line in expected:
        path = Path(line["path"])
        answer = ask("POST", "/score", path.read_bytes())
        assert answer.status == (422 if path.name in BAD else 200)
        assert [*answer.said] == [*line] and answer.said["path"] is None and answer.said["seconds"] >= 0
        for name in ("score", "percentile"):
            assert answer.said[name] == pytest.approx(line[name], abs=1e-6)
        assert [answer.said[name] for name in ("abnormal", "error", "note")] == [
            line[name] for name in ("abnormal", "error", "note")
        ]
        assert (answer.said["error"] is not None) == (path.name in BAD)
    assert "nearly black" in ask("POST", "/score", (tmp_path / "black.png").read_bytes()).said["note"]
    assert ask("POST", "/score", b"").said["error"] == "an empty file"
    assert ask("POST", "/score", GOOD["film.dcm"][132:], content_type="application/dicom").status == 200


def test_a_form_is_told_how_to_send_a_film(ask):
    answer = ask("POST", "/score", b"--a\r\n", content_type="multipart/form-data; boundary=a")
    assert answer.status == 415 and "curl --data-binary @film.png" in answer.said["error"]


def test_an_explanation_says_what_drove_the_score(run, films, ask):
    film = run.films[0]
    line, answer = (ask("POST", f"/score{query}", film.read_bytes()).said for query in ("?explain=0", "?explain=1"))
    found = answer.pop("explanation")
    assert "explanation" not in line and {**answer, "seconds": 0} == {**line, "seconds": 0}
    (expected,) = films.explainer.explain(torch.tensor(films.scorer.read(film).content)[None, None])
    assert found["sentence"] == expected.sentence and expected.score_map is not None
    assert [place["value"] for place in found["places"]] == pytest.approx([p.value for p in expected.score_map.places])
    assert [near["name"] for near in found["neighbours"]] == [near.name for near in expected.neighbours] != []
    assert {"input", "score", "layer"} <= found["pictures"].keys() and [*found["words"]["titles"]][0] == "input"
    for uri in [*found["pictures"].values(), *(near["picture"] for near in found["neighbours"])]:
        kind, _, content = uri.partition(",")
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            assert kind == "data:image/png;base64" and picture.format == "PNG"
            pixels = np.asarray(picture)
        if uri == found["pictures"]["score"]:
            assert np.array_equal(pixels, expected.score_map.film_overlay)
    above = "Above" if answer["abnormal"] else "Not above"
    assert found["verdict"].startswith(f"{above} the threshold ") and "95 % of 10 normal" in found["verdict"]


def test_a_score_is_given_even_where_nothing_can_be_explained(run, films, ask, monkeypatch):
    def refuse(*_):
        raise InputError("train/a.png: no such file")

    monkeypatch.setattr(films.explainer, "explain", refuse)
    answer = ask("POST", "/score?explain=1", run.films[0].read_bytes())
    assert answer.status == 200 and answer.said["score"] is not None
    assert answer.said["explanation"]["error"] == "no explanation: train/a.png: no such file"


def test_a_film_of_another_kind_is_scored_with_a_note(films, ask, monkeypatch):
    monkeypatch.setitem(films.scorer.checkpoint.training, "told", {"view": {"PA": 9}})
    answer = ask("POST", "/score", written(dataset(DEEP, bits=13, ViewPosition="LL", Modality="DX")))
    assert answer.status == 200 and "lateral view, but the model was trained on PA" in answer.said["note"]


def test_the_verdict_without_a_calibration(films, monkeypatch):
    monkeypatch.setattr(films.maker, "calibration", None)
    row = films.maker.make(Scored(source=GREY, score=1.0, error=None, seconds=0.0), path=None)
    assert row.abnormal is None and films._verdict(row).startswith("No threshold")


def test_the_state_and_the_page(ask):
    assert ask("GET", "/health").said == {
        "model": "run/model.tar",
        "version": salad.__version__,
        "ready": True,
        "queue": 0,
    }
    page = ask("GET", "/")
    assert page.status == 200 and "not a medical device" in page.said and "run/model.tar" in page.said
    assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert "default-src 'none'" in page.said and "connect-src 'self'" in page.said
    other = ask("GET", "/nothing")
    assert other.status == 404 and other.headers["content-security-policy"].startswith("default-src 'none'")
    assert ask("GET", "/score").said == {"error": "films go to POST /score"}
    assert "films go to POST /score" in ask("POST", "/score/", b"film").said["error"]
    for answer in (page, other):
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
        assert answer.headers["connection"] == "close" and answer.headers["server"] is None


def test_too_large_films_are_refused(films):
    exact = GOOD["grey.png"]
    with served(films, max_bytes=len(exact)) as ask:
        assert ask("POST", "/score", exact).status == 200
        said = f"a film of {len(exact) + 1:,} bytes or more; at most {len(exact):,} are taken, see --max_mb"
        chunks = [exact, b"x"]  # sent without a length
        for body in (exact + b"x", iter(chunks)):
            answer = ask("POST", "/score", body)
            assert answer.status == 413 and answer.said["error"] == said
        large = bytes(30 * 2**20)  # the answer arrives, however much was still to be sent
        assert ask("POST", "/score", large).status == 413
        asked = ask("POST", "/score", None, content_length="9999999999", expect="100-continue")
        assert asked.status == 413  # at once, and nothing was sent
        assert ask("GET", "/health").said["queue"] == 0


@pytest.fixture
def held(films, monkeypatch):
    """An event that lets all films through the network, and the films that have come there."""
    come, event, score = [], threading.Event(), films.score

    def hold(film, *, explains):
        come.append(film)
        event.wait(60)
        return score(film, explains=explains)

    monkeypatch.setattr(films, "score", hold)
    yield event, come
    event.set()


def test_a_full_queue_says_when_to_come_again(films, held):
    event, come = held
    answers = []
    with served(films, queue=3) as ask:
        threads = [
            threading.Thread(target=lambda: answers.append(ask("POST", "/score", GOOD["grey.png"]))) for _ in "abc"
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: ask("GET", "/health").said["queue"] == 3)
        assert ask("GET", "/health").said["ready"] is False
        for body in (GOOD["grey.png"], bytes(2**20)):
            refused = ask("POST", "/score", body)
            assert refused.status == 429 and 1 <= int(refused.headers["retry-after"]) <= 60
            assert "3 films are waiting already" in refused.said["error"]
        assert len(come) == 1
        event.set()
        for thread in threads:
            thread.join()
        assert [answer.status for answer in answers] == [200] * 3 and len(come) == 3
        assert ask("POST", "/score", GOOD["grey.png"]).status == 200


def test_the_film_of_a_client_that_has_left_is_not_scored(films, held):
    event, come = held
    with served(films) as ask:
        first = threading.Thread(target=ask, args=("POST", "/score", GOOD["grey.png"]))
        first.start()
        wait_until(lambda: come)
        with begun(ask.port, GOOD["deep.png"], length=len(GOOD["deep.png"])):
            wait_until(lambda: ask("GET", "/health").said["queue"] == 2)
        event.set()
        wait_until(lambda: ask("GET", "/health").said["queue"] == 0)
        first.join()
    assert [film.content for film in come] == [GOOD["grey.png"]]


def begun(port, content, *, length) -> socket.socket:
    """A connection with the beginning of a film of this length."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(
        f"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode() + content
    )
    return connection


def test_slow_clients_are_cut_off(films, monkeypatch):
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(app, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(app, "REST_SECONDS", 0.1)
    with served(films) as ask:
        with socket.create_connection(("127.0.0.1", ask.port), timeout=60) as silent:
            silent.sendall(b"POST /score HT")
            with pytest.raises(ConnectionError):
                assert silent.recv(100) == b""
                raise ConnectionError
        with begun(ask.port, b"a film of", length=100) as slow:
            assert slow.makefile("rb").read().startswith(b"HTTP/1.1 408 ")
        assert ask("GET", "/health").said["queue"] == 0


def test_an_answer_that_nobody_reads_is_dropped(films, monkeypatch):
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(films, "score", lambda *_, **__: (True, "x" * 2**25))  # more than the system takes
    with served(films) as ask, begun(ask.port, b"film", length=4) as deaf:
        wait_until(lambda: ask("GET", "/health").said["queue"] == 0)
        time.sleep(0.5)
        assert len(deaf.makefile("rb").read()) < 2**24  # what the system had taken


@pytest.mark.parametrize(("error", "status"), [(RuntimeError(f"of {SECRET}"), 500), (MemoryError(), 503)])
def test_a_bug_neither_ends_the_server_nor_says_more_than_its_kind(films, ask, monkeypatch, caplog, error, status):
    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG):
        patch.setattr(films, "score", fail)
        answer = ask("POST", "/score", GOOD["grey.png"])
    assert answer.status == status and [*answer.said] == ["error"] and SECRET not in str(answer.said)
    assert SECRET not in caplog.text and (status == 503 or "RuntimeError in " in caplog.text)
    assert ask("POST", "/score", GOOD["grey.png"]).status == 200


def test_requests_pass_the_gate(films):
    with served(films, token=TOKEN) as ask:
        film, good = GOOD["grey.png"], f"Bearer {TOKEN}"
        assert ask("POST", "/score", film, authorization=good).status == 200
        missing = ask("POST", "/score", film)
        assert missing.status == 401 and missing.headers["www-authenticate"] == "Bearer"
        assert ask("POST", "/score", film, authorization="Bearer wrong").status == 401
        assert ask("POST", "/score", film, authorization=good, origin="http://evil.example").status == 403
        assert ask("POST", "/score", film, authorization=good, host="evil.example").status == 421
        same = {"host": f"localhost:{ask.port}", "origin": f"http://localhost:{ask.port}"}
        assert ask("POST", "/score", film, authorization=good, **same).status == 200
        assert ask("GET", "/health").status == ask("GET", "/").status == 200


def test_nothing_about_a_film_is_logged(ask, caplog):
    with caplog.at_level(logging.DEBUG):
        assert ask("POST", f"/score?name={SECRET}", GOOD["film.dcm"], x_name=SECRET).status == 200
        assert ask("POST", f"/{SECRET}", GOOD["film.dcm"]).status == 404
        assert ask("POST", "/score", BAD["half.dcm"]).status == 422
    assert SECRET not in caplog.text and "127.0.0.1" not in caplog.text and "POST" not in caplog.text
