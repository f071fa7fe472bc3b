"""The report: JSON as its schema says, HTML that loads nothing and escapes everything, plots and galleries."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import jsonschema
import numpy as np
import pytest
from PIL import Image

from CTDiffusionLogic.corpus.resample import BodyBox
from CTDiffusionLogic.errors import OutputError
from CTDiffusionLogic.fidelity.findings import InputVolume, LeftOut, Report
from CTDiffusionLogic.fidelity.report import REPORT_FILES, write_report
from CTDiffusionLogic.fidelity.report.figures import plot_curve, plot_overview
from CTDiffusionLogic.fidelity.report.galleries import pair_with_nearest, take_pictures
from CTDiffusionLogic.fidelity.report.html_report import format_number, to_html
from CTDiffusionLogic.fidelity.report.json_report import SCHEMA_FILE, to_data, to_json
from CTDiffusionLogic.fidelity.results import PLANES, Curve, Figure, Interval, Section
from CTDiffusionLogic.fidelity.volumes import LabVolume

EVIL = "<script src='https://evil.example/x.js'></script>"


def lab_volume(name, *, patient="", hu=40, place=(60.0, 60.0), size=100):
    """Air with a block of ``hu`` around ``place`` (row, column, mm), of 2 mm voxels."""
    voxels = np.full((40, size, size), -1000, np.int16)
    row, column = (int(mm / 2) for mm in place)
    voxels[10:30, row - 20 : row + 20, column - 20 : column + 20] = hu
    body = BodyBox(place[0] - 40, place[0] + 40, place[1] - 40, place[1] + 40)
    return LabVolume(name, patient or name, voxels, (2.0, 2.0, 2.0), body)


def input_volume(name, *groups, **more):
    return InputVolume(
        id=name,
        patient=more.pop("patient", name),
        groups=groups,
        sha256="0" * 64,
        shape=(40, 100, 100),
        spacing_mm=(2.0, 2.0, 2.0),
        **more,
    )


def frechet():
    figure = Figure(
        key="frechet.ctfeatures.axial",
        title="Fréchet distance, axial",
        synthetic=Interval(value=31.25, low=28.0, high=36.0),
        floor=Interval(value=5.0, low=3.0, high=8.0),
        better="lower",
        plane="axial",
        extractor="ctfeatures",
        extractor_sha256="ab" * 32,
        counts={"real_patients": 2, "real_images": 1200},
        meaning="How far features lie apart.",
    )
    curve = Curve(
        key="frechet.curve",
        title="A curve",
        x=[1.0, 2.0, 4.0],
        lines={"real": [3.0, 2.0, 1.0], "synthetic": [3.5, float("nan"), 1.0], "something else": [1.0, 1.0, 1.0]},
        bands={"real": ([2.0, 1.0, 0.5], [4.0, 3.0, 2.0])},
        x_title="Distance",
        x_unit="mm",
        y_title="Power",
        y_unit="HU²",
        x_log=True,
        y_log=True,
    )
    details = {
        "closest_pairs": [
            {"synthetic": "s1", "training": "r2", "distance": 0.125},
            {"synthetic": "s1", "training": "r1", "ratio": 0.4, "copy": True, "picture": "data:image/png;base64,AAAA"},
        ],
        "standing_text": "nothing like it",
        "independent_slices": {figure.key: 77.7},
        "array": np.arange(3),
        "nothing": float("inf"),
    }
    return Section(
        key="frechet",
        title="Fréchet distance",
        verdict=f"31 against 5. {EVIL}",
        figures=[figure],
        curves=[curve],
        warnings=["Few patients."],
        details=details,
    )


@pytest.fixture
def report():
    return Report(
        created="2024-05-06T07:08:09Z",
        command=f"ctdiffusion evaluate --real '{EVIL}'",
        seed=3,
        versions={"CTDiffusion": "0.1.0"},
        machine="CPU",
        protocol={"planes": {"pixel_mm": 2.0, "hu_window": (-1000, 1000), "side_mm": None}},
        inputs=(
            input_volume("r1", "real"),
            input_volume("r2", "real", "training"),
            input_volume("s1", "synthetic", synthetic=True, origin={"model": EVIL}),
        ),
        left_out=(LeftOut(path=EVIL, group="real", reason="is not a CT"),),
        sections=(frechet(),),
        warnings=(f"Careful {EVIL}",),
        seconds={"reading": 1.5, "all": 12.25},
    )


@pytest.fixture
def pictures():
    volumes = [lab_volume("r1", place=(100.0, 100.0)), lab_volume("r2", hu=-300), lab_volume("s1", hu=-310)]
    return {volume.id: take_pictures(volume) for volume in volumes}


def test_json_is_what_the_schema_says(report):
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    data = json.loads(to_json(report))
    jsonschema.validate(data, schema)
    assert data["sections"][0]["standing"] == "far off"
    assert data["sections"][0]["figures"][0]["standing"] == "far off"
    assert data["counts"]["real"] == {"volumes": 2, "patients": 2}
    assert data["counts"]["training"] == {"volumes": 1, "patients": 1}
    assert data["sections"][0]["details"]["array"] == [0, 1, 2]
    assert data["sections"][0]["details"]["nothing"] is None  # JSON has no infinity
    pairs = data["sections"][0]["details"]["closest_pairs"]
    assert [sorted(pair) for pair in pairs] == [  # patients' pictures are in the page only
        ["distance", "synthetic", "training"],
        ["copy", "ratio", "synthetic", "training"],
    ]
    assert data["sections"][0]["curves"][0]["lines"]["synthetic"] == [3.5, None, 1.0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.pop("rule"),
        lambda data: data.update(format_version=2),
        lambda data: data["inputs"][0].update(groups=["unreal"]),
        lambda data: data["sections"][0]["figures"][0].update(synthetic={"value": "3"}),
        lambda data: data["sections"][0].update(standing="splendid"),
    ],
)
def test_the_schema_notices_what_is_wrong(report, spoil):
    data = to_data(report)
    spoil(data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


class _Page(HTMLParser):
    """Elements, their attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data


@pytest.fixture
def page(report, pictures):
    plots = {"frechet": [plot_curve(report.sections[0].curves[0], name="c")]}
    return to_html(report, pictures=pictures, plots=plots, overview=plot_overview(report.sections))


def test_the_page_loads_nothing(page):
    elements = _Page(page).elements
    assert not {tag for tag, _ in elements} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in elements:
        for name, value in attributes.items():
            if name in ("src", "href", "action", "data", "poster", "srcset", "background"):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for t, a in elements if t == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in policy


def test_text_from_files_is_escaped(page):
    assert "<script" not in page
    assert _Page(page).words.count(EVIL) >= 5  # verdict, twice; warning; command; origin; file: shown as they are


def test_the_page_can_be_read_without_seeing_it(page):
    elements = _Page(page).elements
    assert next(a for t, a in elements if t == "html")["lang"] == "en"
    pictures = [a for t, a in elements if t == "img"]
    assert len(pictures) == 2 + 3 + 1 + 3  # overview, curve; closest pairs, one with its own picture; gallery
    assert all(len(picture["alt"]) > 20 for picture in pictures)
    assert all(a.get("scope") for t, a in elements if t == "th")
    identifiers = [a["id"] for _, a in elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    targets = {a["href"][1:] for t, a in elements if t == "a"}
    assert targets <= set(identifiers)


def test_the_page_says_what_matters_in_words(page):
    words = " ".join(_Page(page).words.split())
    assert words.count("must never be used for diagnosis") == 2
    assert "1 synthetic volume beside 2 real scans of 2 patients. Of 1 section, 1 reads far off." in words
    assert "■ far off" in words  # a shape and a word, not only a colour
    assert "■ nothing like it" in words  # a section's own words
    assert "s1 beside r1: ratio 0.4, a copy." in words
    assert "31.2" in words  # the figure, its interval, its floor, counts, extractor and hash
    assert "28 to 36" in words
    assert "3 to 8" in words
    assert "1,200 real images" in words
    assert "ctfeatures" in words
    assert "abababababab" in words
    assert "77.7" in words  # the baseline
    assert "three times that bound" in words  # the rule
    assert "hu window" in words
    assert "Few patients." in words


def test_files_appear_whole_or_not_at_all(report, pictures, tmp_path, monkeypatch):
    written = write_report(report, pictures, tmp_path / "out")
    assert [path.name for path in written] == list(REPORT_FILES)
    assert sorted(p.name for p in (tmp_path / "out" / "plots").iterdir()) == ["frechet-curve.png", "overview.png"]
    with pytest.raises(OutputError, match="not empty"):
        write_report(report, pictures, tmp_path / "out")
    monkeypatch.setattr("CTDiffusionLogic.fidelity.report.writing.to_json", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(report, pictures, tmp_path / "broken")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_plots_are_pictures_with_words(report):
    plot = plot_curve(report.sections[0].curves[0], name="c")
    with Image.open(io.BytesIO(plot.png)) as picture:
        assert picture.width > 600
    assert plot.alt.startswith("Line chart of Power (HU²) over Distance (mm): real from 3 to 1, largest 3 at 1;")
    assert plot.png == plot_curve(report.sections[0].curves[0], name="c").png  # same data, same bytes
    assert base64.b64decode(plot.data_uri.partition(",")[2]) == plot.png
    overview = plot_overview(report.sections)
    assert "Fréchet distance, axial 6.2 times, far off" in overview.alt
    assert plot_overview([]) is None


def test_a_curve_of_one_point_or_without_positive_values_is_drawn():
    for x, y in (([1.0], [1.0]), ([0.0, 1.0], [0.0, -1.0]), ([1.0, 2.0], [float("nan"), float("nan")])):
        curve = Curve(key="c", title="C", x=x, lines={"real": y}, x_log=True, y_log=True)
        assert plot_curve(curve, name="c").png[:4] == b"\x89PNG"


def test_pictures_are_at_one_scale_around_the_body():
    near = take_pictures(lab_volume("a", place=(60.0, 60.0)))
    far = take_pictures(lab_volume("b", place=(400.0, 300.0), size=300))
    assert near.images["axial"].shape == (100, 100)  # 200 mm at 2 mm
    assert far.images["axial"].shape == (200, 200)  # 600 mm cut to 400
    assert far.images["coronal"].shape == (40, 200)
    for pictures in (near, far):
        for plane in PLANES:
            bright = pictures.images[plane] > 100
            assert bright.any(axis=1).sum() == (40 if plane == "axial" else 20)
            assert bright.any(axis=0).sum() == 40


def test_coronal_and_sagittal_pictures_have_the_head_up():
    volume = lab_volume("a")
    volume.hu[30:] = 400  # towards the head
    for plane in ("coronal", "sagittal"):
        picture = take_pictures(volume).images[plane]
        assert picture[:10].min() == 255
        assert picture[10:].max() < 255


def test_nearest_is_the_real_volume_that_looks_most_alike():
    real = [take_pictures(lab_volume(f"r{n}", hu=hu)) for n, hu in enumerate((-700, 0, 700))]
    synthetic = [take_pictures(lab_volume(f"s{n}", hu=hu)) for n, hu in enumerate((650, -650, 30))]
    assert [pair.real for pair in pair_with_nearest(synthetic, real)] == ["r2", "r0", "r1"]
    assert [pair.synthetic for pair in pair_with_nearest(synthetic, real, shown=2)] == ["s0", "s2"]
    assert pair_with_nearest(synthetic, []) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.012345, "0.0123"), (12.345, "12.3"), (123.4, "123"), (-4567.8, "-4,568"), (1e-5, "1.00e-05")],
)
def test_numbers(value, text):
    assert format_number(value) == text
