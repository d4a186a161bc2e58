"""Large arrays: whatever the chunks, the elements and the rest are those of the whole document."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import array
from engine.codec.array import ArraySplitter
from engine.errors import BrokenAnswer, CapExceeded, RecordError

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.sampled_from('ab"\\{}[],:é\n '), max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "results", "a,b", '"}']), inner, max_size=3)
    ),
    max_leaves=8,
)
members = st.dictionaries(st.sampled_from(["a", "summary", "resultsx", "x]"]), values, max_size=3)


def read(document, size, member="results", **caps):
    splitter = ArraySplitter(member, **caps)
    windows = [w for start in range(0, len(document), size) for w in splitter.feed(document[start : start + size])]
    rest = splitter.finish()
    return [element for window in windows for element in json.loads(window)], json.loads(rest)


def cuts(document, size):
    return [document[start : start + size] for start in range(0, len(document), size)]


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of a few bytes, so that small documents exercise guesses and boundaries."""
    monkeypatch.setattr(array, "WINDOW_BYTES", 24)


@given(
    elements=st.lists(values, max_size=12),
    before=members,
    after=members,
    indent=st.sampled_from([None, 0, 2]),
    size=st.integers(1, 40),
)
def test_elements_and_rest_are_those_of_the_document(elements, before, after, indent, size):
    """Any JSON, anywhere in the document, in any layout, in chunks of any size."""
    after = {name: value for name, value in after.items() if name not in before}
    document = {**before, "results": elements, **after}
    text = json.dumps(document, indent=indent, ensure_ascii=False).encode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array, "WINDOW_BYTES", 24)
        found, rest = read(text, size)

    assert found == elements
    assert rest == {**document, "results": []}


@pytest.mark.parametrize("gap", ["", " ", "\r\n\t"])
def test_cut_at_every_byte(gap, small_windows):
    """Two chunks with the cut at every byte give the same elements, and any cut end is noticed."""
    text = (
        '{"a": {"results": [9]}, "results" : [ {"id":"1","sub":[{"id":"x"},{"id":"}],"}]} ,@'
        '{"id":"2\\"]"},@{"id":"\\\\"} , [1,[2]], "s,\\"", 3.5, null ], "sum":{"n":[1,2]}}'
    ).replace("@", gap)
    data = text.encode()
    whole = json.loads(text)

    for cut in range(len(data) + 1):
        splitter = ArraySplitter("results")
        windows = splitter.feed(data[:cut]) + splitter.feed(data[cut:])
        assert [e for w in windows for e in json.loads(w)] == whole["results"]
        assert json.loads(splitter.finish()) == {**whole, "results": []}
    for cut in range(len(data)):
        splitter = ArraySplitter("results")
        splitter.feed(data[:cut])
        with pytest.raises(BrokenAnswer):
            splitter.finish()


@pytest.mark.parametrize("key", ["id", "name"])
def test_many_windows_of_real_size(key):
    """Elements whose parts look like element boundaries are split at the true ones only."""
    rows = [
        {"id": index, "links": [{key: index}, {key: "},{"}, {key: "],"}], "text": "x" * (index % 200)}
        for index in range(4000)
    ]
    document = json.dumps({"n": 1, "results": rows, "end": rows[:3]}, separators=(",", ":")).encode()

    splitter = ArraySplitter("results")
    windows = [w for chunk in cuts(document, 65536) for w in splitter.feed(chunk)]

    assert [row for window in windows for row in json.loads(window)] == rows
    assert json.loads(splitter.finish())["end"] == rows[:3]
    assert max(map(len, windows)) < 80_000
    assert len(windows) > 4


def test_an_empty_array_has_no_windows():
    """No element, no window, and the rest as it was."""
    assert read(b'{"results": [ \n], "n": 1}', 3) == ([], {"results": [], "n": 1})


def test_a_name_may_be_escaped_and_a_byte_order_mark_stand_before():
    """The member is found by what its name means, not by how it is written."""
    assert read(b'\xef\xbb\xbf{"res\\u0075lts":[1]}', 2) == ([1], {"results": []})


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b'{"rows": [1], "a": 2}', "no member `results`; it has: rows, a"),
        (b'{"results": null}', "is not an array"),
        (b'{"results": {"results": []}}', "is not an array"),
        (b'[{"results": []}]', "is not an object"),
    ],
)
def test_a_document_without_the_array_says_so(document, reason):
    """What is missing is the record's fault, not the network's, and the message names it."""
    with pytest.raises(RecordError, match=reason):
        read(document, 4)


@pytest.mark.parametrize(
    "document",
    [
        b'{"results":[1]} x',
        b'{"results":[1]}}',
        b'{"results":[1]}{"results":[2]}',
        b'{"results":[1}]',
        b'{"results":[1,]}',
        b'{"results":[,1]}',
        b'{"results":[{"a":1},{"a":1},]}',
        b'{"results":[tru]}',
        b'{"results":["\xff"]}',
        b'{"results":["a\x01b"]}',
        b'{"results":[1],"results":[2]}',
        b'{"results":[1] "a":2}',
        b'{"a":1,"results":[1],}',
        b"",
        b"null x",
    ],
)
def test_what_is_not_one_whole_document_is_refused(document, small_windows):
    """Cut, damaged, doubled or followed by garbage: never taken as complete."""
    for size in (1, 7, 1000):
        with pytest.raises(BrokenAnswer):
            read(document, size)


@pytest.mark.parametrize("document", [b'{"results":[' + b"[" * 10_000 + b"]" * 10_001 + b"}", b'{"a":' * 10_000])
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_deep_nesting_is_refused(document, size):
    """Ten thousand levels end in our cap, before any decoder recurses."""
    with pytest.raises(CapExceeded, match="deeper"):
        read(document, size)


def test_the_depth_cap_holds_in_windows_that_were_guessed():
    """An element in the middle of many is held to the same depth as the first."""
    shallow = [{"id": 1, "x": "y" * 1000}] * 100
    deep = '{"id":1,"x":' + "[" * 200 + "]" * 200 + "}"
    text = json.dumps({"results": shallow}, separators=(",", ":"))[:-2]

    with pytest.raises(CapExceeded, match="deeper"):
        read(f"{text},{deep},{json.dumps(shallow * 2)[1:-1]}]}}".encode(), 65536)


def test_an_endless_element_is_refused():
    """One element over its cap does not grow memory for ever."""
    with pytest.raises(CapExceeded, match="element"):
        read(b'{"results":["' + b"x" * 300_000, 1000, max_element=200_000)


def test_a_large_element_within_the_cap_is_one_window():
    """An element larger than a window is handed out whole, in time linear in its size."""
    big = "x\\" * 300_000
    found, _ = read(json.dumps({"results": [1, big, 2]}).encode(), 1000)

    assert found == [1, big, 2]


@pytest.mark.parametrize("document", [b'["' + b"\\n" * 1_000_000 + b'"]', b"[[" + b'"",' * 700_000 + b"1]]"])
def test_the_scanner_needs_no_memory_of_its_own(document):
    """However many escapes or strings stand in a row, looking for the brackets keeps none of them."""
    data = bytearray(document)
    scanner = array._Scanner(max_depth=10)
    tracemalloc.start()
    steps = 0
    while scanner.step(data) is not None:
        steps += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (scanner.pos, scanner.depth, steps % 2) == (len(data), 0, 0)
    assert peak < 2_000_000


def test_an_endless_rest_is_refused(monkeypatch):
    """What stands outside the array is kept, so it is capped."""
    monkeypatch.setattr(array, "MAX_REST", 100_000)

    for document in (b'{"results":[1],"a":"' + b"x" * 200_000, b'{"a":"' + b"x" * 200_000):
        with pytest.raises(CapExceeded, match="outside"):
            read(document, 100)
