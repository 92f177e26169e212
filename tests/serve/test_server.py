"""`salad serve` as a program of its own: in a browser, under load, and at its end."""

import base64
import importlib.util
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from browsing import PHONE, browser, keep
from dicom_files import SECRET, dataset, written
from PIL import Image
from running import ONE_THREAD, REPOSITORY, invoke, stopped
from serving import TOKEN, asking, served, wait_until

from salad import cli
from salad.serve.server import bind

# The command in a process of its own with the tiny network.
PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from salad.networks import unet
unet.WIDTHS = (4, 4, 4, 4, 4, 4, 8)
from salad.cli import main
main(sys.argv[1:], prog_name="salad")
"""
NUM_CLIENTS, MAX_GROWTH_KB = 50, 40_000


@pytest.fixture(scope="module")
def program(run, tmp_path_factory):
    """The running program, which has a folder for temporary files of its own."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "tmp").mkdir()
    words = ["serve", "--load_model", run.model, "--device", "cpu", "--port", 0, "--queue", 30]
    env = {**ONE_THREAD, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(folder / "tmp")}
    with (folder / "said").open("w") as said:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, words)], env=env, stdout=said, stderr=said)
    found = SimpleNamespace(process=process, said=folder / "said", temporary=folder / "tmp")
    wait_until(lambda: "serving" in found.said.read_text() or process.poll() is not None)
    found.url = re.search(r"http://127\.0\.0\.1:(\d+)/", found.said.read_text())
    found.ask = asking(int(found.url[1]))
    yield found
    process.kill()
    process.wait()


def memory_kb(process) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1])


def resting(found):
    """A result without the time that it took."""
    return {**found.said, "seconds": 0} if "seconds" in found.said else found.said


@pytest.mark.slow
def test_fifty_clients_get_right_answers_and_leave_nothing(program, run):
    ask = program.ask
    wait_until(lambda: can_connect(ask))
    good = [file.read_bytes() for file in run.films]
    bodies = [*good, written(dataset(np.arange(4000, dtype=np.uint16).reshape(50, 80))), good[0][:300], b"no film", b""]
    expected = [ask("POST", "/score", body) for body in bodies]
    assert [answer.status for answer in expected] == [200] * 7 + [422] * 3

    def client(number: int):
        which = number % len(bodies)
        return which, ask("POST", "/score", bodies[which])

    sizes = []
    for _ in range(3):
        with ThreadPoolExecutor(NUM_CLIENTS) as clients:
            answers = [*clients.map(client, range(2 * NUM_CLIENTS))]
        assert sum(answer.status == 429 for _, answer in answers) < len(answers)
        for which, answer in answers:
            if answer.status == 429:
                assert int(answer.headers["retry-after"]) >= 1 and "try again" in answer.said["error"]
            else:
                assert answer.status == expected[which].status and resting(answer) == resting(expected[which])
        sizes.append(memory_kb(program.process))
    assert sizes[-1] < sizes[0] + MAX_GROWTH_KB, sizes
    assert ask("GET", "/health").said["queue"] == 0
    assert not any(path.is_file() for path in program.temporary.rglob("*"))


def can_connect(ask) -> bool:
    try:
        return ask("GET", "/health").status == 200
    except ConnectionError:
        return False


@pytest.mark.slow
def test_sigterm_finishes_what_was_taken_in(program, tmp_path):
    ask, answers = program.ask, []
    wait_until(lambda: can_connect(ask))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1500), dtype=np.uint8)).save(tmp_path / "a.png")
    large = (tmp_path / "a.png").read_bytes()
    threads = [
        threading.Thread(target=lambda: answers.append(ask("POST", "/score?explain=1", large))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: ask("GET", "/health").said["queue"] == 4)
    program.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not can_connect(ask))
    assert program.process.wait(60) == 0
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 4
    said = program.said.read_text()
    assert "serving xp/model.tar on http://127.0.0.1:" in said
    assert not any(word in said for word in ("Traceback", "Error", "POST", "/score", SECRET)), said


def test_what_cannot_be_served_is_refused_in_a_line(run, tmp_path, monkeypatch):
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        for words, said in (
            (["--port", port], "cannot be used"),
            (["--host", "192.0.2.1"], "--host 192.0.2.1 --port 8765: cannot be used"),
            (["--port", 0, "--token_file", tmp_path / "none"], "--token_file"),
        ):
            assert said in stopped(invoke(cli.main, "serve", "--load_model", run.model, *words))
    assert "--load_model is missing" in stopped(invoke(cli.main, "serve"))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    said = stopped(invoke(cli.main, "serve", "--load_model", run.model))
    assert "salad serve needs the package uvicorn: pip install" in said and "[serve]" in said
    assert "--max_mb" in invoke(cli.main, "serve", "--max_mb", 0).stderr


# The page -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture
def visit(chromium):
    """A function that opens the page of a server; at the end, it must have complained of nothing but refusals."""
    problems = []

    def look(ask, **options):
        page = chromium.new_context(**options).new_page()
        page.on("console", lambda said: problems.append(said.text) if "load resource" not in said.text else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"http://127.0.0.1:{ask.port}/")
        return page

    yield look
    assert problems == []


DROP = """async ([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0)), carried = new DataTransfer();
  carried.items.add(new File([bytes], name));
  document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: carried }));
}"""


@pytest.mark.slow
def test_films_are_dropped_and_their_results_read(visit, films, run, tmp_path, monkeypatch):
    monkeypatch.setitem(films.scorer.checkpoint.training, "told", {"view": {"PA": 9}, "part": {"CHEST": 9}})
    film, broken = run.films[-1], tmp_path / "x<img src=y onerror=alert(1)>.png"
    broken.write_bytes(film.read_bytes()[:400])
    hand = dataset(np.arange(4000, dtype=np.uint16).reshape(50, 80), BodyPartExamined="HAND", ViewPosition="LL")
    (tmp_path / "film.dcm").write_bytes(written(hand))
    with served(films) as ask:
        expected = ask("POST", "/score?explain=1", film.read_bytes()).said
        page = visit(ask)
        page.evaluate(DROP, ["first.png", base64.b64encode(film.read_bytes()).decode()])
        entry = page.locator("#films > li")
        entry.locator(".verdict").wait_for()
        text = entry.inner_text()
        assert text.startswith("first.png") and expected["explanation"]["verdict"] in text
        assert f"Score {expected['score']:#.6g}" in text and f"{expected['percentile']:g} %" in text
        assert expected["explanation"]["sentence"] in text and expected["explanation"]["neighbours"][0]["name"] in text
        assert entry.locator(".neighbours img").count() == len(expected["explanation"]["neighbours"])
        assert entry.locator(f".mark.{'abnormal' if expected['abnormal'] else 'normal'}").count() == 1
        assert page.locator("#said").inner_text().startswith("first.png: ")

        page.focus("#choose")  # the keyboard reaches slider and pictures from here
        reached = []
        for _ in range(10):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.id"))
        assert reached[0] == "clear" and "Opacity of the map" in reached
        slider = entry.locator(".opacity input")
        slider.press("Home")
        assert entry.locator(".layer").evaluate("one => getComputedStyle(one).opacity") == "0"
        slider.press("End")
        assert entry.locator(".layer").evaluate("one => getComputedStyle(one).opacity") == "1"
        picture = entry.get_by_role("button", name="Enlarge").first
        for key, is_large in (("Enter", True), ("Space", False)):
            picture.press(key)
            assert (entry.locator(".zoomed").count() == 1) is is_large
        keep(page, "serve_result", tmp_path)

        page.set_input_files("#choose", [broken, tmp_path / "film.dcm", film])  # one after the other
        page.locator("#films > li").nth(3).wait_for()
        page.wait_for_function("() => document.querySelectorAll('#films .state').length === 0")
        names = page.locator("#films h2").all_inner_texts()
        assert names == [film.name, "film.dcm", broken.name, "first.png"]  # the last one first
        refused = page.locator("#films > li").nth(2)
        assert refused.locator(".note").inner_text().startswith("Not scored: damaged, cut off or not readable")
        assert page.locator("#films .verdict").count() == 3
        notes = page.locator("#films > li").nth(1).locator(".notes li").all_inner_texts()
        assert [note.partition(",")[0] for note in notes[:2]] == ["lateral view", "body part HAND"]
        keep(page, "serve_refusal", tmp_path)
        page.click("#clear")
        assert page.locator("#films > li").count() == 0


@pytest.mark.slow
def test_a_phone_the_token_and_refusals_of_the_server(visit, films, run, tmp_path, monkeypatch):
    film = run.films[0]
    (tmp_path / "large.png").write_bytes(bytes(2**20))
    with served(films, max_bytes=2**19, token=TOKEN) as ask:
        page = visit(ask, viewport=PHONE, has_touch=True)
        page.set_input_files("#choose", tmp_path / "large.png")
        page.locator(".note").wait_for()
        assert "1,048,576 bytes; at most 524,288 are taken" in page.locator(".note").inner_text()
        page.set_input_files("#choose", film)
        for word in ("wrong", TOKEN):
            page.locator("#token").wait_for()
            page.locator("#token").press_sequentially(word)
            page.locator("#token").press("Enter")
        page.locator(".verdict").wait_for()
        assert not page.locator("#ask").is_visible()
        assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length, location.href.length]")[
            :3
        ] == [
            "",
            0,
            0,
        ]
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        keep(page, "serve_phone", tmp_path)
    page.set_input_files("#choose", film)  # of a server that has ended
    page.locator("text=cannot be reached").first.wait_for()
    assert page.locator("button", has_text="Try again").count() == 1
