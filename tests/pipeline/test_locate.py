"""Places: keys and values of a TOML text are found where they stand."""

from hypothesis import given
from hypothesis import strategies as st

from engine.pipeline.locate import locate

TEXT = '''\
a = 1  # one
[t."x y"]
b.c = [ 10,
        { d = "}]", e = """two
lines""" } ]

[[p]]
n = 1
[[p]]
n = 'second'
[p.q]
r = true
'''


def test_places_of_every_form() -> None:
    """Dotted and quoted keys, nested values and arrays of tables have their own lines and columns."""
    spots = locate(TEXT)

    def key(*path):
        return spots[path].line, spots[path].column, spots[path].length

    def value(*path):
        return spots[path].value_line, spots[path].value_column, spots[path].value_length

    assert key("a") == (1, 1, 1)
    assert value("a") == (1, 5, 1)
    assert key("t", "x y") == (2, 1, 9)
    assert key("t", "x y", "b", "c") == (3, 1, 3)
    assert value("t", "x y", "b", "c", 0) == (3, 9, 2)
    assert value("t", "x y", "b", "c", 1, "d") == (4, 15, 4)
    assert value("t", "x y", "b", "c", 1, "e") == (4, 25, 6)
    assert value("p", 0, "n") == (8, 5, 1)
    assert value("p", 1, "n") == (10, 5, 8)
    assert value("p", 1, "q", "r") == (12, 5, 4)


@given(st.text(alphabet="ab.\"'[]{}=,#\n\\ 1", max_size=60))
def test_no_text_defeats_the_scanner(text: str) -> None:
    """Any text at all, valid or not, is scanned to an end without an exception."""
    locate(text)
