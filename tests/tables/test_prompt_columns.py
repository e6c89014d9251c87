"""The columns of a prompt table: how each may be stored, and which are refused."""

from decimal import Decimal
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pytest

from mynth_dagster.errors import TableError
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.batch_settings import PROMPT_COLUMNS
from mynth_dagster.models.request import InputImage, RowRequest
from mynth_dagster.tables.store import IMAGES, PROMPTS
from tests.tables.outcomes import image


@pytest.mark.parametrize("column", ["enhance", "magic_prompt"])
def test_enhancement_may_be_boolean(write, column):
    """True asks for magic, False for none even against the default, null for the default."""
    rows = {"prompt": ["a"] * 3, column: [True, False, None]}

    planned = write(rows, enhance="magic").planned()

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
    assert expected == row.request.routing.metadata_json


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

    assert (row.prompt_id, row.request.count) == ("5", 3)


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
        ("count", pa.array([True]), "needs integer; if it is a column of your own, map count to"),
        ("prompt_id", pa.array([[1]]), "needs string, integer or UUID"),
        ("prompt", pa.array([1]), "needs string"),
        ("inputs", pa.array(["https://x"]), "put the single URL into a list"),
        ("inputs", pa.array([[1]]), "list of string"),
        ("inputs", pa.array([[{"href": "u"}]]), "list of struct with url and role"),
        ("metadata", pa.array([[1]]), "struct, map with string keys, or JSON string"),
        ("enhance", pa.array([1]), "boolean"),
        ("size", pa.array([b"x"]), "has type binary, size needs string"),
    ],
)
def test_wrong_type_of_a_column_is_reported(write, column, values, hint):
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

    assert RowRequest("a") == row.request


UUID_TEXT = "12345678-1234-5678-1234-567812345678"
UUID_BYTES = UUID(UUID_TEXT).bytes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1.0, 2.0]), ["1", "2"]),
        (pa.array([Decimal(1), Decimal(10**30)]), ["1", str(10**30)]),
        (pa.array([Decimal("1.00"), Decimal("2.00")]), ["1", "2"]),
        (pa.array([UUID_BYTES] * 1, pa.binary(16)), [UUID_TEXT]),
        (
            pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID_BYTES], pa.binary(16))),
            [UUID_TEXT],
        ),
        (pa.array([b"\x01\xff"], pa.binary(2)), ["01ff"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    ],
)
def test_names_of_rows_may_be_written_as_other_engines_do(write, values, expected):
    """Each has one spelling, the same as integers and text have."""
    rows = {"prompt": ["a", "b"][: len(values)], "prompt_id": values}

    assert [row["prompt_id"] for row in write(rows).rows()] == expected


@pytest.mark.parametrize(
    "values",
    [
        pa.array([3.0, float("nan")]),
        pa.array([Decimal("3.0"), None]),
        pa.array(["3", " "]),
        pa.array(["3.0", None]),
        pa.array([3, None], pa.uint8()),
        pa.array([3, None]).dictionary_encode(),
    ],
)
@pytest.mark.parametrize("column", ["count", "output_quality"])
def test_whole_numbers_may_be_written_as_other_engines_do(write, values, column):
    """Floats of pandas, decimals and text of folders; what is missing is the default."""
    planned = write({"prompt": ["a", "b"], column: values}, count=7, output_quality=7).planned()

    assert [getattr(row.request, column) for row in planned] == [3, 7]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("count", pa.array([1.5, 1.0])),
        ("count", pa.array([float("inf"), 1.0])),
        ("count", pa.array(["many", "1"])),
        ("count", pa.array([Decimal("1.5"), Decimal("1.0")])),
        ("count", pa.array([1e300, 1.0])),
        ("count", pa.array(["1e999999999", "1"])),
        ("prompt_id", pa.array([1.5, 1.0])),
        ("prompt_id", pa.array([1e17, 1.0])),
    ],
)
def test_a_number_that_is_not_whole_fails_its_row(write, column, values):
    """Nothing is rounded."""
    written = write({"prompt": ["a", "b"], column: values})

    assert written.problems() == [(f"invalid_{column}", column), None]


SILENT = [
    pa.nulls(2),
    pa.array([float("nan"), None]),
    pa.array([None, None], pa.bool_()),
    pa.array([None, None], pa.int64()),
    pa.array([None, None], pa.timestamp("us")),
    pa.array([None, None], pa.string()),
    pa.array([None, None], pa.list_(pa.string())),
]


@pytest.mark.parametrize("values", SILENT)
@pytest.mark.parametrize("other_name", ["enhance", "magic_prompt"])
def test_optional_columns_without_any_value_say_nothing(write, other_name, values):
    """Whatever type a CSV reader gave them; the rows are named and asked for as without them."""
    bare = write({"prompt": ["a", "b"]}).rows()

    columns = {name: values for name in PROMPT_COLUMNS if name != other_name}
    rows = write({**columns, "prompt": ["a", "b"]}).rows()

    assert rows == bare


@pytest.mark.parametrize(
    "text",
    [
        *("\u200b", "\ufeff", "\u2060", "\u00ad", "\u200e\u200f", "\u2800", "  \u200b\n", "\u3164"),
        *("\u115f", "\u1160", "\uffa0", "\ufe0f", "\U000e0100", "\u180b", "\u034f", "\u0301"),
        *("\U000e0041", "\u2028", "\x1f", "\u3000", "\u200d\u200c", "\u061c", "\x85", "\x7f"),
    ],
)
def test_a_prompt_that_nobody_can_see_is_empty(write, text):
    """Marks, fillers and controls alone ask for nothing; beside a letter they are fine."""
    written = write({"prompt": [text, f"{text}a", "ok"], "negative_prompt": [None, None, text]})

    assert written.problems() == [("empty_prompt", "prompt"), None, None]
    assert [row.request.prompt for row in written.planned()] == [f"{text}a", "ok"]
    assert written.planned()[1].request.negative_prompt is None


@pytest.mark.parametrize(
    "text", ["画", "🪁", "é", "e\u0301", "?", "1", "\ufffd", "अ", "\ue000", "ㅏ"]
)
def test_a_prompt_of_one_sign_is_a_prompt(write, text):
    """Every script, symbol and picture counts."""
    assert write({"prompt": [text]}).problems() == [None]


def test_columns_that_differ_in_case_alone_are_kept_apart(write):
    """SQL engines know no difference, so one of them changes its name, and the user is told."""
    rows = {
        "prompt": ["a"],
        "Model": ["m"],
        "Date": ["d"],
        "sku": [1],
        "SKU": [2],
        "Prompt_ID": [3],
    }

    written = write(rows)

    (row,) = written.rows()
    names = [name.lower() for name in row]
    assert len(set(names)) == len(names)
    assert (row["input_Model"], row["input_Date"], row["sku"]) == ("m", "d", 1)
    assert (row["input_SKU"], row["input_Prompt_ID"]) == (2, 3)
    notes = written.summaries[0].notes
    assert (
        "column 'Model' is carried and not used as 'model'; to use it, map model to Model" in notes
    )


@pytest.mark.parametrize("name", ["count", "model", "size", "metadata", "prompt_id", "inputs"])
def test_a_column_of_our_name_may_be_the_users_own(write, name):
    """Mapped to nothing, it is carried under another name and says nothing to us."""
    rows = {"prompt": ["a"], name: pa.array([{"any": ["thing"]}])}

    (row,) = write(rows, columns={name: None}).rows()

    assert row[f"input_{name}"] == {"any": ["thing"]}
    assert row["problem_code"] is None


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["x"]).cast(pa.string_view()),
        pa.array([b"x"]).cast(pa.binary_view()),
        pa.array([["x"]], pa.list_(pa.string_view())),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID_BYTES], pa.binary(16))),
        pa.array([1.5], pa.float16()) if hasattr(pa, "float16") else pa.nulls(1),
        pa.array([1], pa.duration("ns")),
    ],
)
def test_rare_types_are_carried(write, collect, known, values):
    """To prompts and to results, however often they are copied."""
    (row,) = write({"prompt": ["a"], "count": [2], "mine": values}).planned()
    known.add(row, images=[image(0), image(1)])

    _, tables = collect()

    assert [image_["mine"] for image_ in tables[IMAGES]] == values.to_pylist() * 2


@pytest.mark.parametrize("kind", [pa.month_day_nano_interval(), pa.struct([])])
def test_a_type_that_results_cannot_keep_is_refused_by_name(write, kind):
    """Before anything is paid."""
    with pytest.raises(TableError, match=r"column 'mine': has type .* which Parquet cannot keep"):
        write(pa.table({"prompt": ["a"], "mine": pa.nulls(1, kind)}))
