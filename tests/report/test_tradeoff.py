"""Pareto's front against all pairs, and where points stand in the picture."""

from xml.etree import ElementTree

import numpy as np
import pytest

from jaxlm.report.tradeoff import Point, front, picture

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_no_other_beats(seed, higher):
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 8, (12, 2)).tolist()  # with ties
    points = [Point(f"{number}", size, value, value, value) for number, (size, value) in enumerate(drawn)]

    def beaten(one: Point) -> bool:
        at_least = lambda a, b: a >= b if higher else a <= b
        return any(
            other.bytes <= one.bytes
            and at_least(other.value, one.value)
            and (other.bytes, other.value) != (one.bytes, one.value)
            for other in points
        )

    expected = {(one.bytes, one.value) for one in points if not beaten(one)}
    found = front(points, higher=higher)
    assert {(one.bytes, one.value) for one in found} == expected and len(found) == len(expected)
    assert [one.bytes for one in found] == sorted(one.bytes for one in found)


def test_points_stand_by_size_and_value_and_names_are_escaped():
    points = [Point("a<b", 10_000_000, 0.9, 0.85, 0.95), Point("c", 40_000_000, 0.95, 0.95, 0.95)]
    root = ElementTree.fromstring(picture(points, "accuracy", higher=True))
    first, second = ((float(one.get("cx")), float(one.get("cy"))) for one in root.iter(f"{SVG}circle"))
    assert first[0] < second[0] and first[1] > second[1], "up is more"
    (line,) = root.iter(f"{SVG}polyline")
    assert line.get("points") == " ".join(f"{x:.1f},{y:.1f}" for x, y in (first, second))
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert "a<b" in texts and "accuracy (higher is better)" in texts and "MB of weights" in texts
