"""The maps of an image as values and in colour."""

import numpy as np

from salad.explaining.maps import DEVIATIONS_RANGE, RAW_RANGE, ErrorMap, MemoryMap, ScoreMap

PIXELS = np.full((20, 20), 90, np.uint8)


def test_a_map_of_the_score_lies_in_the_middle_of_its_film():
    values, film = np.zeros((20, 20), np.float32), np.full((30, 30), 90, np.uint8)
    values[4:9, 4:9] = 5
    found = ScoreMap(pixels=PIXELS, values=values, threshold=2, specificity=0.95, normals="validation", film=film)

    assert found.film_values.shape == (30, 30) and (found.film_values[5:-5, 5:-5] == values).all()
    assert found.film_values.sum() == values.sum()
    assert found.contour.any() and not found.contour[6, 6] and not found.contour[values == 0].any()
    for overlay, inside, outside in ((found.overlay, (6, 6), (18, 18)), (found.film_overlay, (11, 11), (1, 1))):
        assert overlay.dtype == np.uint8 and overlay[outside].tolist() == [90, 90, 90]
        assert np.ptp(overlay[inside].astype(int)) > 30  # in colour
    [place] = found.places
    assert (place.ratio, place.value) == (2.5, 5)


def test_colours_begin_and_end_at_the_given_values():
    ramp = np.linspace(0, 8, 400, dtype=np.float32).reshape(20, 20)
    for between in (DEVIATIONS_RANGE, RAW_RANGE):
        error = ErrorMap(pixels=PIXELS, recon=PIXELS, values=ramp, between=between)
        memory = MemoryMap(pixels=PIXELS, values=ramp, between=between)
        assert (error.overlay == memory.overlay).all() and error.is_standardized == (between == DEVIATIONS_RANGE)
        same = (error.overlay == error.overlay[-1, -1]).all(axis=2)
        assert (same | (ramp < between[1])).all() and same.mean() < 1  # all alike above the end
