"""report.html as people use it, in a real browser."""

import csv
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from browsing import PHONE, browser, flaws, keep, opened
from running import TINY, invoke, read_csv, train

from salad import cli
from salad.datasets import phantom
from salad.errors import printable
from salad.evaluation.rates import Confusion

pytestmark = pytest.mark.slow

HOSTILE = (  # a file name holds no slash ...
    "<svg onload=alert(1)>{{ 7 * 7 }}.png",
    "'\"><img src=x onerror=alert(2)>&amp;.png",
    "line\nbreak \x1b[31mred \u202egnp.png",
)
FOLDER = "x<"  # ... but a folder's end makes one: x</script>
CLOSING = "script><script>alert(3)<"
PATIENT = "PATIENT-4711"


def write_data(root):
    """Phantoms with hostile names, and a table that knows their patients and findings."""
    phantom.write_phantom(root, size=32, num_train=8, num_val=10, num_test=14)
    abnormal = sorted((root / "test/1.abnormal").iterdir())
    for file, name in zip(abnormal, HOSTILE, strict=False):
        file.rename(file.with_name(name))
    inner = root / "test/1.abnormal" / FOLDER / CLOSING
    inner.mkdir(parents=True)
    abnormal[5].rename(inner / "script>.png")
    files = sorted(file for file in (root / "test").rglob("*.png") if printable(file) == str(file))
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(["path", "patient_id", "finding"])
        for i, file in enumerate(files):
            finding = "normal" if "0.normal" in str(file) else ["mass", 'no"dule'][i % 2]
            writer.writerow([file.relative_to(root).as_posix(), f"{PATIENT}-{i}", finding])
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report of a tiny model, and what scores.csv says."""
    root = tmp_path_factory.mktemp("report")
    data, xp = write_data(root / "data"), root / "xp"
    train(xp, data, "--cache", root / "cache")
    words = [*TINY, "--cache", root / "cache", "--score", "reconstruction"]  # spreads more than an untrained angle does
    result = invoke(cli.test, "CXR_author", "unet", xp, data, *words, "--report")
    assert result.exit_code == 0, result.stderr
    lines = read_csv(xp / "scores.csv")
    return SimpleNamespace(
        xp=xp,
        data=data,
        cache=root / "cache",
        page=xp / "report.html",
        names=[line["path"] for line in lines],
        labels=[int(line["label"]) for line in lines],
        scores=np.array([float(line["score"]) for line in lines]),
    )


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture
def page(chromium, made):
    with opened(chromium, made.page) as shown:
        yield shown


def numbers(page) -> Confusion:
    return Confusion(*(int(page.locator(f"#{cell}").inner_text()) for cell in ("tn", "fp", "fn", "tp")))


def threshold(page) -> float:
    return float(page.locator("body").get_attribute("data-threshold"))


def cards(page) -> list[int]:
    """Items of the cards that are shown, in their order."""
    return [int(card.get_attribute("data-item")) for card in page.locator(".card:visible").all()]


def items(page) -> list[dict]:
    return page.evaluate("JSON.parse(document.getElementById('data').textContent).items")


def test_the_slider_changes_the_numbers_to_those_of_its_threshold(page, made):
    slider, seen = page.locator("#slider"), set()
    slider.focus()
    for key in ["", "ArrowLeft", *["PageDown"] * 5, "Home", *["PageUp"] * 3, "End"]:
        if key:
            slider.press(key)
        found = Confusion.at(threshold(page), made.labels, made.scores)
        assert numbers(page) == found
        assert page.locator("#f1").inner_text() == (f"{found.f1:.4f}" if found.f1 is not None else "undefined")
        for name in ("sensitivity", "specificity", "precision"):
            rate, text = getattr(found, name), page.locator(f"#{name}").inner_text()
            if rate is None:
                assert text == "undefined"
            else:
                low, high = rate.interval
                expected = (
                    f"{100 * rate.value:.1f} % {rate.count} of {rate.of}; {100 * low:.1f} % to {100 * high:.1f} %"
                )
                assert " ".join(text.split()) == expected
        seen.add(found)
    assert len(seen) > 4  # it did move


def test_an_image_that_scores_as_much_as_the_threshold_is_predicted_normal(page, made):
    for score in sorted(made.scores)[::5]:
        page.locator("#threshold-value").fill(repr(float(score)))
        assert threshold(page) == score
        assert numbers(page) == Confusion.at(score, made.labels, made.scores)


def test_the_threshold_starts_where_validation_normals_fix_it_and_returns_there(page, made):
    start = threshold(page)
    assert "10 validation normals" in page.locator("#threshold-note").inner_text()
    page.locator("#threshold-value").fill("0")
    assert threshold(page) == 0
    page.locator("#reset").click()
    assert threshold(page) == start and numbers(page) == Confusion.at(start, made.labels, made.scores)


def test_a_click_opens_the_detail_and_escape_leaves_it(page, tmp_path):
    card = page.locator(".card").nth(1)
    card.click()
    dialog = page.locator("#detail")
    assert dialog.is_visible()
    shown = items(page)[int(card.get_attribute("data-item"))]
    assert page.locator("#detail-name").inner_text() == shown["name"]
    titles = page.locator(".views figcaption").all_inner_texts()
    assert [title.split(",")[0].split(";")[0] for title in titles] == [
        "Image",
        "Reconstruction",
        "Reconstruction error",
        "Distance to the nearest normal images",
    ]
    loaded = "all => all.every(one => one.complete && one.naturalWidth > 0)"
    assert page.locator("#detail img").evaluate_all(loaded) and page.locator("#detail img").count() == 4 + 5
    angles = [float(text.split()[0]) for text in page.locator(".neighbours p").all_inner_texts()]
    assert angles == sorted(angles) and len(angles) == 5
    keep(page, "detail", tmp_path, full_page=False)
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert card.evaluate("card => card === document.activeElement")


def test_enter_opens_a_card_and_arrows_go_on(page):
    order = cards(page)
    page.locator(".card").first.focus()
    page.keyboard.press("Enter")
    for key, place in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0), ("ArrowLeft", -1)):
        page.keyboard.press(key)
        assert page.locator("#detail-name").inner_text() == items(page)[order[place]]["name"]
    page.locator("#close").click()
    assert not page.locator("#detail").is_visible()


def test_filters_show_what_they_say(page):
    known, form = items(page), page.locator("#filters")
    every = cards(page)
    assert len(every) == len(set(every)) > 20

    def expect(keep):
        assert cards(page) == [i for i in every if keep(known[i])]
        assert page.locator("#shown").inner_text() == f"{len(cards(page))} of {len(every)} images shown"

    form.get_by_label("Class").select_option("abnormal")
    expect(lambda item: item["label"] == 1)
    form.get_by_label("Finding").select_option('no"dule')
    expect(lambda item: 'no"dule' in item["findings"])
    assert cards(page)
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("document.querySelectorAll('.cards li[hidden]').length === 0")
    form.get_by_label("Show").select_option("Most normal")
    expect(lambda item: "normal" in item["groups"])
    assert len(cards(page)) == 12
    page.get_by_role("button", name="Clear").click()
    middle = known[every[len(every) // 2]]["score"]
    form.get_by_label("Score from").fill(repr(middle))
    expect(lambda item: item["score"] >= middle)
    form.get_by_label("Score from").fill("")
    form.get_by_label("Predicted").select_option("normal")
    expect(lambda item: item["score"] <= threshold(page))
    page.locator("#threshold-value").fill(repr(middle))
    expect(lambda item: item["score"] <= middle)


def test_sorting_orders_the_cards(page):
    known, sort = items(page), page.get_by_label("Sort by")
    scores = [known[i]["score"] for i in cards(page)]
    assert scores == sorted(scores, reverse=True)
    sort.select_option("score, smallest first")
    scores = [known[i]["score"] for i in cards(page)]
    assert scores == sorted(scores)
    sort.select_option("name")
    names = [known[i]["name"] for i in cards(page)]
    assert names == sorted(names)


def test_groups_of_the_gallery_are_the_ends_and_the_mistakes(page, made):
    known, start = items(page), threshold(page)
    scores, labels = made.scores, np.array(made.labels)

    def of(group):
        return sorted(item["score"] for item in known if group in item["groups"])

    assert of("anomalous") == sorted(scores)[-12:]
    assert of("normal") == sorted(scores)[:12]
    assert of("alarm") == sorted(scores[(labels == 0) & (scores > start)])[-12:]
    assert of("miss") == sorted(scores[(labels == 1) & (scores <= start)])[:12]


def test_hostile_names_are_text(page, made):
    hostile = [name for name in made.names if re.search(r"[<\\]", name)]
    assert len(hostile) == len(HOSTILE) + 1 and any("</script>" in name for name in hostile)
    shown = page.locator(".card .name").all_text_contents()
    in_gallery = {item["name"] for item in items(page) if item["groups"]}
    assert in_gallery.issuperset(shown) and in_gallery & set(hostile)
    assert {item["name"] for item in items(page)} == set(made.names)
    assert page.locator("script").count() == 2 and page.locator("[onerror]").count() == 0
    for name in sorted(in_gallery & set(hostile)):
        page.locator(".card").filter(has_text=name).first.click()
        assert page.locator("#detail-name").text_content() == name
        page.keyboard.press("Escape")


def test_no_patient_is_named(made):
    assert PATIENT in (made.data / "labels.csv").read_text()
    for file in (made.page, *(made.xp / "figures").glob("*.svg")):
        assert PATIENT not in file.read_text(encoding="utf-8")


def test_points_of_the_map_tell_who_they_are_and_open(page):
    point, tip = page.locator("#plane .point").nth(3), page.locator("#tip")
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    assert tip.is_visible()
    page.mouse.move(0, 0)
    assert tip.is_hidden()
    page.locator("#plane svg").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    named = tip.locator("span").text_content()
    page.keyboard.press("Enter")
    assert page.locator("#detail-name").text_content() == named
    page.keyboard.press("Escape")
    point.dispatch_event("click")
    assert page.locator("#detail").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_plots_are_drawn_and_kept_as_pictures(chromium, made, tmp_path, scheme):
    with opened(chromium, made.page, color_scheme=scheme) as page:
        for plot in ("histogram", "roc", "pr", "plane"):
            assert page.locator(f"#{plot} svg path").count() > 0, plot
        titles = page.locator("#history .title").all_text_contents()
        assert len(titles) == 6 and titles[0].startswith("Loss") and titles[-1] == "Validation AUC"
        assert "NaN" not in page.locator("main").inner_html()
        keep(page, scheme, tmp_path)


def test_epochs_are_counted_in_whole_numbers(chromium, made, tmp_path):
    before, held, after = re.split(
        r'(?<=id="data">)(.*?)(?=</script>)', made.page.read_text(encoding="utf-8"), flags=re.S
    )
    data = json.loads(held)
    data["history"]["epochs"] = list(range(1, 13))
    data["history"]["series"] = {name: values[:1] * 12 for name, values in data["history"]["series"].items()}
    page_of_12 = tmp_path / "report.html"
    page_of_12.write_text(before + json.dumps(data).replace("<", "\\u003c") + after, encoding="utf-8")
    with opened(chromium, page_of_12) as page:
        found = page.locator("#history .plot").first.locator(".tick[text-anchor=middle]").all_text_contents()
    assert found == ["5", "10"]  # and not 2.5


def test_a_phone_scrolls_in_one_direction_only(chromium, made, tmp_path):
    with opened(chromium, made.page, viewport=PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        keep(page, "phone", tmp_path)
        page.locator(".card").first.click()
        assert page.locator("#detail").evaluate("one => one.scrollWidth <= one.clientWidth")
        keep(page, "phone_detail", tmp_path, full_page=False)


def restyle(page, css):
    """Add rules to the page; its policy forbids them in an element."""
    adopt = "css => { const s = new CSSStyleSheet(); s.replaceSync(css); document.adoptedStyleSheets = [s]; }"
    page.evaluate(adopt, css)


AS_A_TABLE = """.metrics { display: table; } .metrics tr { display: table-row; }
.metrics thead { display: table-header-group; } .metrics tbody { display: table-row-group; }
.metrics .how { display: none; } .metrics thead .how { display: table-cell; }"""


@pytest.mark.parametrize("width", [360, 390])
def test_on_a_phone_nothing_overlaps_or_is_cut(chromium, made, width):
    with opened(chromium, made.page, viewport={**PHONE, "width": width}) as page:
        slider = page.locator("#slider")
        for key in ("Home", "PageUp", "PageUp", "End"):  # the line of the threshold passes every title
            slider.press(key)
            assert flaws(page, "main") == []
        assert page.locator(".metrics .how:visible").count() > 8  # the numbers of images stay on a phone
        page.locator(".card").first.click()
        assert flaws(page, "#detail") == []


def test_the_layout_is_really_looked_at(chromium, made):
    with opened(chromium, made.page, viewport=PHONE) as page:
        for css, flaw in (
            (AS_A_TABLE, "no column"),
            (".metrics th { white-space: nowrap; }", "lies on"),
            ("h2 { margin-bottom: -1.5rem; }", "lies on"),
            ("pre { white-space: pre; font-size: 4rem; }", "outside"),
            (".tile { width: 3rem; overflow: hidden; } .tile p { white-space: nowrap; }", "cut"),
        ):
            restyle(page, css)
            assert any(flaw in line for line in flaws(page, "main")), css
        restyle(page, "")
        assert flaws(page, "main") == []
        page.locator("line.threshold").first.evaluate(
            "one => Object.entries({x1: 60, x2: 60, y1: 4}).forEach(([name, value]) => one.setAttribute(name, value))"
        )
        assert any("normal (" in line and "line" in line for line in flaws(page, "main"))


def test_print_leaves_the_controls_out(chromium, made, tmp_path):
    with opened(chromium, made.page) as page:
        page.emulate_media(media="print")
        assert not page.locator("#slider").is_visible() and not page.locator("#filters").is_visible()
        assert page.locator(".card").first.is_visible()
        keep(page, "print", tmp_path, full_page=False)


def test_the_results_are_printed_on_one_page_and_no_row_is_torn(chromium, made, tmp_path):
    with opened(chromium, made.page) as page:
        restyle(page, "main > section:not(#summary) { display: none; }")
        printed = page.pdf(format="A4", prefer_css_page_size=True)
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1
        page.set_viewport_size({"width": 688, "height": 1017})  # A4 without its margins of 14 mm
        page.emulate_media(media="print")
        for part in (".metrics", ".metrics tbody tr", ".tile"):  # a longer table goes to a page of its own as a whole
            assert page.locator(part).first.evaluate("one => getComputedStyle(one).breakInside") == "avoid"
        assert flaws(page, "#summary") == []
        keep(page, "print_results", tmp_path)


def test_without_scripts_numbers_and_gallery_remain(chromium, made):
    with opened(chromium, made.page, java_script_enabled=False) as page:
        assert page.locator(".metrics tbody tr").count() > 8
        assert page.locator(".card img").count() > 20
        assert page.locator("noscript").is_visible()


def test_training_images_and_val_may_be_gone(chromium, made, tmp_path):
    shutil.copytree(made.data / "test", tmp_path / "data/test")
    words = [tmp_path / "xp", tmp_path / "data", *TINY, "--load_model", made.xp / "last.tar", "--score", "svdd"]
    result = invoke(cli.test, "CXR_author", "unet", *words, "--cache", "off", "--report")
    assert result.exit_code == 0, result.stderr
    with opened(chromium, tmp_path / "xp/report.html") as page:
        assert "No validation normals" in page.locator("#threshold-note").inner_text()
        normal = [score for score, label in zip(scores_of(tmp_path / "xp"), made.labels, strict=True) if label == 0]
        assert threshold(page) == pytest.approx(np.median(normal), rel=1e-12)
        page.locator(".card").first.click()
        assert page.locator(".views figure").count() == 3  # no map of the memory
        assert page.locator(".neighbours img").count() == 0
        assert all("row " in text for text in page.locator(".neighbours p").all_inner_texts())


def scores_of(xp):
    return [float(line["score"]) for line in read_csv(xp / "scores.csv")]
