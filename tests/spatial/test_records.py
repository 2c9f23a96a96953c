"""Dataclasses as JSON objects and back; damaged ones are refused in one line."""

import json
from dataclasses import dataclass, field

import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.records import as_json, from_json, parse_json, read_json


@dataclass(frozen=True)
class Part:
    mean: float
    max: float | None = None


@dataclass(frozen=True)
class Whole:
    name: str
    count: int
    part: Part
    parts: dict[str, Part] = field(default_factory=dict)
    numbers: list[float] | None = None
    reused: bool | None = None
    first: float | None = field(default=0.0)


WHOLE = Whole("a", 3, Part(0.5), {"x": Part(1.0, 2.0)}, [1, 2.5], first=None)
JSON = {
    "name": "a",
    "count": 3,
    "part": {"mean": 0.5},
    "parts": {"x": {"mean": 1.0, "max": 2.0}},
    "numbers": [1, 2.5],
    # None is not the default here, so that it is not left out.
    "first": None,
}


def restored(**changes):
    return from_json(Whole, {**JSON, **changes}, "s.json", "register again")


def test_round_trip_through_json():
    assert as_json(WHOLE) == JSON
    assert from_json(Whole, json.loads(json.dumps(JSON)), "s.json", "") == WHOLE


def test_containers_and_other_values():
    assert as_json([Part(1.0), (Part(2.0), 3)]) == [{"mean": 1.0}, [{"mean": 2.0}, 3]]
    assert as_json({"a": None, "b": "text"}) == {"a": None, "b": "text"}
    assert as_json(Part) is Part  # a class is not a record


def test_unknown_keys_are_ignored():
    assert restored(later="x", part={"mean": 0.5, "min": 0}) == WHOLE


def test_numbers_are_not_converted():
    assert restored(part={"mean": 1}).part.mean == 1
    value = restored(count=2**60 + 1).count
    assert value == 2**60 + 1 and isinstance(value, int)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 3.5}, ("int", "count")),
        ({"count": "3"}, ("int", "count")),
        ({"count": True}, ("int", "count")),
        ({"name": 3}, ("str", "name")),
        ({"name": None}, ("str", "name")),
        ({"reused": "yes"}, ("reused",)),
        ({"part": {}}, ("mean", "part")),
        ({"part": [1]}, ("part",)),
        ({"part": {"mean": False}}, ("float", "part.mean")),
        ({"parts": {"x": {"mean": "1"}}}, ("float", "x")),
        ({"numbers": [1, "two"]}, ("numbers",)),
    ],
)
def test_damaged_records_are_refused(changes, words):
    with pytest.raises(InputError) as caught:
        restored(**changes)
    message = str(caught.value)
    assert message.startswith("s.json: ") and message.endswith("; register again")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_other_json_is_refused(data):
    with pytest.raises(InputError, match=r"^s\.json: .*; register again$"):
        from_json(Whole, data, "s.json", "register again")


def test_missing_fields_are_named():
    data = {key: value for key, value in JSON.items() if key != "count"}
    with pytest.raises(InputError, match="count"):
        from_json(Whole, data, "s.json", "register again")


@pytest.mark.parametrize("data", [[], None, 3, "text"])
def test_what_is_not_an_object_is_refused(data):
    with pytest.raises(InputError, match=r"^s\.json: is not a JSON object; register again$"):
        from_json(Whole, data, "s.json", "register again")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested more than 50 levels"),
        ("9" * 5000, "is too large"),
        ("[9223372036854775808]", "is too large"),
        ("[NaN]", "NaN is not finite"),
        ("[-Infinity]", "-Infinity is not finite"),
        ("[1e999]", "1e999 is not finite"),
        ('["\\ud800"]', "surrogates not allowed"),
        (b'"\xff"', "not text in UTF-8"),
    ],
)
def test_json_that_no_reader_could_use(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parse_json(text)
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"a\.json: is not JSON.*; write it again"):
        read_json(path, "record", "write it again")


def test_json_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("\ufeff" + json.dumps(JSON), encoding="utf-8")
    assert read_json(path, "record", "write it again") == JSON
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "none.json", "record", "write it again")
