"""The columns of a prompt table: how each may be stored, and which are refused."""

import pandas as pd
import pyarrow as pa
import pytest

from mynth_dagster.errors import TableError
from mynth_dagster.models.batch import RequestDefaults
from mynth_dagster.models.partition import Slice
from mynth_dagster.models.request import ImageRequest, InputImage
from mynth_dagster.tables.files import PROMPTS


@pytest.mark.parametrize("column", ["enhance", "magic_prompt"])
def test_enhancement_may_be_boolean(write, column):
    """True asks for magic, False for none even against the default, null for the default."""
    rows = {"prompt": ["a"] * 3, column: [True, False, None]}

    planned = write(rows, defaults=RequestDefaults(enhance="magic")).planned()

    assert [row.request.enhance for row in planned] == ["magic", None, "magic"]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([{"a": 1, "b": [1.5]}]), '{"a":1,"b":[1.5]}'),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), '{"a":1}'),
        (pa.array(['{"é": "ü", "n": 10000000000000000000001}']), None),
    ],
)
def test_metadata_may_be_struct_map_or_json(write, column, expected):
    """All three spellings become the same compact JSON, numbers untouched."""
    (row,) = write({"prompt": ["a"], "metadata": column}).planned()

    expected = expected or '{"é":"ü","n":10000000000000000000001}'
    assert expected == row.request.delivery.metadata_json


def test_inputs_may_carry_roles(write):
    """A list of structs gives each input its role."""
    inputs = [[{"url": "https://x/1.png", "role": "reference"}], [], None]

    planned = write({"prompt": ["a", "b", "c"], "inputs": inputs}).planned()

    assert (InputImage("https://x/1.png", "reference"),) == planned[0].request.inputs
    assert () == planned[1].request.inputs == planned[2].request.inputs


TEXTS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
]


@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_text_may_be_stored_in_any_way(write, kind):
    """All string-like types mean the same."""
    column = pa.array(["a", "b", "a"]).cast(kind)

    planned = write(pa.table({"prompt": column, "prompt_id": ["1", "2", "3"]})).planned()

    assert [row.request.prompt for row in planned] == ["a", "b", "a"]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.uint16(), pa.int64(), pa.uint64()])
def test_numbers_may_have_any_width(write, kind):
    """Ids and counts may be integers of any width."""
    rows = {"prompt": ["a"], "prompt_id": pa.array([5], kind), "count": pa.array([3], kind)}

    (row,) = write(rows).planned()

    assert (row.prompt_id, row.n_asked) == ("5", 3)


def test_large_ids_stay_exact(write):
    """Ids beyond the exact range of floats keep every digit."""
    ids = pa.array([2**64 - 1, 2**53 + 1], pa.uint64())

    planned = write({"prompt": ["a", "b"], "prompt_id": ids}).planned()

    assert [str(2**64 - 1), str(2**53 + 1)] == [row.prompt_id for row in planned]


def test_columns_may_have_other_names(write):
    """A mapping says what our columns are called in the table."""
    rows = {"caption_en": ["a"], "sku": ["x1"]}

    (row,) = write(rows, columns={"prompt": "caption_en", "prompt_id": "sku"}).planned()

    assert (row.prompt_id, row.request.prompt) == ("x1", "a")


def test_other_columns_are_carried(write):
    """Columns that mean nothing to us stay as they are, whatever their type."""
    carried = {
        "price": pa.array([1, None], pa.decimal128(10, 2)),
        "tags": pa.array([["x"], []]),
        "when": pa.array([1, 2], pa.timestamp("ms", "Europe/Berlin")),
        "kind": pa.array(["k", "k"]).dictionary_encode(),
    }

    written = write({"prompt": ["a", "b"], **carried})

    schema = written.store.read_schema(PROMPTS, Slice())
    assert {name: column.type for name, column in carried.items()} == {
        name: schema.field(name).type for name in carried
    }
    rows = written.rows()
    assert [row["tags"] for row in rows] == [["x"], []]


def test_carried_names_that_clash_are_changed(write):
    """A carried column named like one of ours, or like a folder, is renamed and reported."""
    rows = {
        "text": ["a"],
        "prompt": ["old"],
        "url": ["u"],
        "date": ["d"],
        "input_url": ["taken"],
        "kept": ["k"],
    }

    written = write(rows, columns={"prompt": "text"})

    (row,) = written.rows()
    assert (
        row["input_prompt"],
        row["input_input_url"],
        row["input_date"],
        row["input_url"],
        row["kept"],
    ) == ("old", "u", "d", "taken", "k")
    assert (written.summaries[0].renamed) == {
        "prompt": "input_prompt",
        "url": "input_input_url",
        "date": "input_date",
    }


def test_missing_prompt_column_names_what_is_there(write):
    """Without the prompt column the error lists the columns and the nearest name."""
    with pytest.raises(TableError, match=r"did you mean 'Prompt'.*'Prompt', 'sku'"):
        write({"Prompt": ["a"], "sku": ["b"]})


def test_missing_mapped_column_is_named(write):
    """A mapping to a column that is not there is an error of the same kind."""
    with pytest.raises(TableError, match=r"'caption': there is no such column.*'captions'"):
        write({"prompt": ["a"], "captions": ["b"]}, columns={"negative_prompt": "caption"})


@pytest.mark.parametrize(
    ("column", "values", "hint"),
    [
        ("count", pa.array([1.0]), "needs integer .*Int64"),
        ("prompt_id", pa.array([1.0]), "needs string or integer .*Int64"),
        ("prompt", pa.array([1]), "needs string"),
        ("inputs", pa.array(["https://x"]), "put the single URL into a list"),
        ("inputs", pa.array([[1]]), "list of string"),
        ("inputs", pa.array([[{"href": "u"}]]), "list of struct with url and role"),
        ("metadata", pa.array([[1]]), "struct, map with string keys, or JSON string"),
        ("enhance", pa.array([1]), "boolean"),
        ("size", pa.array([b"x"]), "has type binary, size needs string"),
    ],
)
def test_wrong_type_of_a_column_is_said(write, column, values, hint):
    """A whole column of a wrong type stops with its type and what is allowed."""
    rows = {"prompt": ["a"], column: values}

    with pytest.raises(TableError, match=hint) as caught:
        write(rows)

    assert column == caught.value.problems[0].column


def test_both_words_for_enhancement_are_refused(write):
    """A table that says enhancement in two columns is ambiguous."""
    with pytest.raises(TableError, match="keep one of the two"):
        write({"prompt": ["a"], "enhance": [True], "magic_prompt": [True]})


def test_name_of_two_columns_is_refused(write):
    """Two columns of one name are ambiguous."""
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])

    with pytest.raises(TableError, match="given to two columns"):
        write(table)


def test_columns_without_values_may_have_no_type(write):
    """A column of nulls alone, as pandas writes it, says nothing in any row."""
    frame = pd.DataFrame({"prompt": ["a"], "size": [None], "count": [None], "metadata": [None]})

    (row,) = write(pa.Table.from_pandas(frame)).planned()

    assert ImageRequest("a") == row.request
