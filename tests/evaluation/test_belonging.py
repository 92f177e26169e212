"""Films of another kind than the training images, only where both are told."""

from salad.evaluation.belonging import count_told, find_strange, in_short, with_further

PA, AP, LATERAL = ({"view": view} for view in ("PA", "AP", "lateral"))
TOLD = {"view": {"AP": 2, "PA": 8}, "part": {"CHEST": 9}}


def test_only_what_half_and_at_least_five_of_the_training_images_tell_counts():
    assert count_told([PA] * 8 + [{**AP, "part": "CHEST"}] * 2) == {"view": {"AP": 2, "PA": 8}}
    assert count_told([PA] * 4) == count_told([PA] * 8 + [{}] * 9) == count_told([]) == {}


def test_a_film_is_strange_by_each_fact_that_no_training_image_shares():
    strange = find_strange({"view": "lateral", "part": "HAND", "pixels": "MONOCHROME1"}, TOLD)

    assert strange == (
        "lateral view, but the model was trained on AP and PA",
        "body part HAND, but the model was trained on CHEST",
    )
    assert [*map(in_short, strange)] == ["lateral view", "body part HAND"]


def test_nothing_is_said_where_model_or_film_tells_nothing():
    assert find_strange(LATERAL, {}) == find_strange({}, TOLD) == find_strange({**AP, "part": "CHEST"}, TOLD) == ()
    assert find_strange(LATERAL, {"view": {}}) == ()


def test_enrolled_films_count_with_the_training_images():
    more = with_further(TOLD, [{**LATERAL, "modality": "CT"}, AP, {}])

    assert more == {"view": {"AP": 3, "PA": 8, "lateral": 1}, "part": {"CHEST": 9}}
    assert find_strange(LATERAL, more) == () and with_further({}, [LATERAL]) == {}
