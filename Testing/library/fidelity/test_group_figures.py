"""What the rooms share: power spectra of groups, and sentences on groups that are unlike."""

from types import SimpleNamespace

import numpy as np
import pytest

from CTDiffusionLogic.fidelity.group_figures import Rows, spectrum_curve, spectrum_figure
from CTDiffusionLogic.fidelity.group_warnings import unlike_warnings, volume_warnings

TEXTS = {"limit": 1.5, "what": "Pixels differ", "digits": ".2g", "meaning": "beware."}


def decibels(*levels: float) -> Rows:
    """Flat spectra of these heights, each of its own patient."""
    return Rows(np.array([[level] * 4 for level in levels]), tuple(f"p{n}" for n in range(len(levels))))


def measured(mm: float, *warnings: str) -> SimpleNamespace:
    return SimpleNamespace(mm=mm, warnings=warnings)


def test_spectra_are_compared_in_decibels_whichever_is_higher():
    for low, high in ((10.0, 13.0), (13.0, 10.0)):
        figure = spectrum_figure(decibels(low, low), decibels(high), key="k", title="t", meaning="m")
        assert figure is not None and figure.unit == "dB"
        assert figure.synthetic.value == pytest.approx(3.0)
    assert spectrum_figure(decibels(), decibels(1.0), key="k", title="t", meaning="m") is None


def test_drawn_spectra_are_means_of_powers_not_of_decibels():
    frequencies = np.array([0.1, 0.2, 0.3, 0.4])
    curve = spectrum_curve(
        {"real": decibels(10.0, 20.0), "none": decibels()}, frequencies, key="k", title="t", y_unit="HU² mm"
    )
    assert curve is not None and curve.lines == {"real": pytest.approx([55.0] * 4)}
    assert (curve.x, curve.x_unit, curve.y_unit, curve.y_log) == (frequencies.tolist(), "cycles/mm", "HU² mm", True)


def test_groups_are_unlike_by_their_medians():
    groups = {"real": [measured(1.0), measured(1.0), measured(9.0)], "synthetic": [measured(1.5)], "none": []}
    assert unlike_warnings(groups, lambda m: m.mm, **TEXTS) == []
    groups["synthetic"] = [measured(0.66)]
    assert unlike_warnings(groups, lambda m: m.mm, **TEXTS) == [
        "Pixels differ (real 1 mm, synthetic 0.66 mm): beware."
    ]
    assert unlike_warnings({"real": []}, lambda m: m.mm, **TEXTS) == []


def test_what_many_volumes_warn_of_is_said_once_a_group():
    groups = {"real": [measured(1, "cut off"), measured(1, "cut off", "short")], "synthetic": [measured(1, "short")]}
    assert volume_warnings(groups) == ["real: cut off (2 volumes).", "real: short.", "synthetic: short."]
