"""An explanation in a notebook, and as a figure for papers."""

import base64
import dataclasses
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from salad.explaining.explanation import Explanation, Neighbour
from salad.explaining.maps import ScoreMap


@pytest.fixture
def explanation():
    """Explanation of a film with a bright square, by a map that points at it; names are hostile."""
    film = np.full((40, 40), 90, np.uint8)
    film[10:20, 5:15] = 200
    values = np.where(film > 100, 6.0, 0.5)
    return Explanation(
        pixels=film,
        parts={"local": 3.25},
        maps={
            "score": ScoreMap(
                pixels=film, values=values, threshold=2, specificity=0.95, normals="validation", film=film
            )
        },
        neighbours=tuple(Neighbour(name=f"<b>{i}&.png", pixels=film, distance=1.0) for i in range(5)),
        score=3.25,
        percentile=98.4,
    )


def test_the_figure_has_image_map_and_neighbours_and_says_the_score(explanation):
    above = explanation.plot().axes[:5]

    assert above[0].get_title() == "score 3.25000\nabove 98 % of normal images"
    assert "95 % of normals lie below" in above[1].get_title()
    assert [axes.get_title() for axes in above[2:]] == [f"nearest normal image {i}" for i in (1, 2, 3)]
    shown = above[1].images[0].get_array()
    red, _, blue = shown[len(shown) * 15 // 40, len(shown) * 10 // 40]
    assert red > blue + 50  # the colour of the map lies on the square


def test_a_notebook_shows_picture_and_sentence_without_running_a_name(explanation):
    found = {}

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found[tag] = dict(attrs)

        def handle_data(self, text):
            found["text"] = text

    Parser().feed(explanation._repr_html_())
    assert found.keys() == {"figure", "img", "figcaption", "text"}
    assert found["text"] == explanation.sentence and "<b>0&.png" in found["text"]
    encoded = found["img"]["src"].removeprefix("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        assert picture.width > 1000 and picture.height > 250


def test_what_is_not_there_is_not_shown(explanation):
    bare = dataclasses.replace(explanation, maps={}, neighbours=(), percentile=None)
    [axes, below] = bare.plot().axes
    assert axes.get_title() == "score 3.25000" and not below.axison
