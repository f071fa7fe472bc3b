"""HU to network intensities and back."""

import numpy as np
import torch

from CTDiffusionLogic.denoiser.intensity import KNOTS, hu_to_intensity, intensity_to_hu


def test_every_hu_value_survives_the_round_trip():
    hu = np.arange(-1024, 3072, dtype=np.int16)
    assert np.array_equal(intensity_to_hu(hu_to_intensity(hu)), hu)


def test_intensities_rise_with_hu_and_fill_the_range():
    intensity = hu_to_intensity(np.arange(-1024, 3072, dtype=np.int16))
    assert intensity[0] == -1 and intensity[-1] == 1
    assert (np.diff(intensity) > 0).all()


def test_values_outside_are_cut_off():
    assert hu_to_intensity(np.array([-3024, 30000], dtype=np.int16)).tolist() == [-1, 1]
    assert intensity_to_hu(torch.tensor([-7.0, 7.0])).tolist() == [-1024, 3071]


def test_knots_map_to_themselves():
    for hu, intensity in KNOTS:
        assert abs(hu_to_intensity(np.array([hu], dtype=np.int16))[0] - intensity) < 1e-6
