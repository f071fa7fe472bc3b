"""Geometry: index to patient space and back, LPS and RAS, and what is refused."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from CTDiffusionLogic.geometry import Geometry


def oblique(seed: int) -> Geometry:
    rng = np.random.default_rng(seed)
    direction = Rotation.random(random_state=seed).as_matrix()
    return Geometry(tuple(rng.uniform(0.3, 5, 3)), tuple(rng.uniform(-500, 500, 3)), direction)


def test_index_to_patient_space_by_hand():
    geometry = Geometry((0.5, 2.0, 3.0), (10, 20, 30))
    np.testing.assert_allclose(geometry.ijk_to_lps @ [2, 1, 4, 1], [11, 22, 42, 1])
    np.testing.assert_allclose(geometry.ijk_to_ras @ [2, 1, 4, 1], [-11, -22, 42, 1])
    np.testing.assert_array_equal(geometry.normal, [0, 0, 1])


@pytest.mark.parametrize("seed", range(5))
def test_matrices_round_trip_for_oblique_grids(seed):
    geometry = oblique(seed)
    assert Geometry.from_ijk_to_lps(geometry.ijk_to_lps).is_close(geometry, atol_mm=1e-9)
    assert Geometry.from_ijk_to_ras(geometry.ijk_to_ras).is_close(geometry, atol_mm=1e-9)


def test_closeness_is_in_mm():
    geometry = Geometry((1, 1, 1), (0, 0, 0))
    assert geometry.is_close(Geometry((1, 1, 1), (0, 0, 9e-5)))
    assert not geometry.is_close(Geometry((1, 1, 1), (0, 0, 2e-4)))
    assert not geometry.is_close(Geometry((1, 1, 1.001), (0, 0, 0)))


def test_geometry_cannot_be_changed_from_outside():
    direction = np.eye(3)
    geometry = Geometry((1, 1, 1), (0, 0, 0), direction)
    direction[0, 0] = 5
    assert geometry.direction[0, 0] == 1
    with pytest.raises(ValueError):
        geometry.direction[0, 0] = 2


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (((1, 0, 1),), "0.0"),
        (((1, -2, 1),), "-2.0"),
        (((1, float("nan"), 1),), "nan"),
        (((1, 1),), r"\(1, 1\)"),
        (((1, 1, 1), (0, float("inf"), 0)), "inf"),
        (((1, 1, 1), (0, 0, 0), np.eye(3) * 2), "2.0"),
        (((1, 1, 1), (0, 0, 0), np.eye(2)), "1"),
    ],
)
def test_refusals_carry_the_value(arguments, seen):
    with pytest.raises(ValueError, match=seen):
        Geometry(*arguments)


def test_matrix_with_a_collapsed_axis_is_refused():
    with pytest.raises(ValueError, match="length zero"):
        Geometry.from_ijk_to_lps(np.diag([1.0, 0.0, 1.0, 1.0]))
