"""Units: texts with units are exact numbers, everything else is refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pipeline.units import UNITS


@pytest.mark.parametrize(
    ("unit", "text", "number"),
    [
        ("duration", "250ms", 0.25),
        ("duration", "30s", 30.0),
        ("duration", "5m", 300.0),
        ("duration", "2h", 7200.0),
        ("duration", "1h30m", 5400.0),
        ("duration", "0s", 0.0),
        ("size", "8MiB", 8 * 1024**2),
        ("size", "768KiB", 768 * 1024),
        ("size", "1.5GiB", 1536 * 1024**2),
        ("size", "1_000B", 1000),
        ("size", "2MB", 2_000_000),
        ("rate", "50/s", 50.0),
        ("rate", "600/min", 10.0),
        ("rate", "36/h", 0.01),
        ("fraction", "1%", 0.01),
        ("fraction", "0.5%", 0.005),
    ],
)
def test_a_text_with_its_unit_is_a_number(unit: str, text: str, number: float) -> None:
    """Seconds, bytes, per second and fractions come out exactly."""
    assert UNITS[unit].read(text) == number


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("duration", ""),
        ("duration", "30"),
        ("duration", "30 s s"),
        ("duration", "-1s"),
        ("duration", "1e3s"),
        ("duration", "30s."),
        ("size", "1.0001KiB"),
        ("size", "1 kib"),
        ("size", "٣MiB"),
        ("rate", "50"),
        ("rate", "50/fortnight"),
        ("fraction", "0.01"),
        ("fraction", "1%%"),
        ("size", "9" * 5000 + "B"),
    ],
)
def test_anything_else_is_refused(unit: str, text: str) -> None:
    """A missing or unknown unit, a sign, an exponent or foreign digits are no value."""
    with pytest.raises(ValueError):
        UNITS[unit].read(text)


@given(st.sampled_from(sorted(UNITS)), st.text(max_size=80))
def test_foreign_text_is_a_number_or_refused(unit: str, text: str) -> None:
    """No text makes the reader fail in any other way."""
    with contextlib.suppress(ValueError):
        assert UNITS[unit].read(text) >= 0


@given(st.sampled_from(sorted(UNITS)), st.integers(min_value=1, max_value=10**9))
def test_a_suggestion_can_be_read(unit: str, number: int) -> None:
    """What is suggested for a bare number is itself of the unit."""
    assert UNITS[unit].read(UNITS[unit].suggest(number)) > 0
