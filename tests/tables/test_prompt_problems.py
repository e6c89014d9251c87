"""Problems of single rows: that row alone is refused, in words, and nothing is cut."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynth_dagster.errors import ConfigError, TableError
from mynth_dagster.limits import (
    INTENT_TAG_KEY,
    INTENT_TAG_MAX_BYTES,
    LIMITS_BY_REVISION,
    PROMPT_ID_MAX_BYTES,
)
from mynth_dagster.models.failure import _OF_THE_SERVER
from mynth_dagster.models.task import NOTHING_LISTED, CatalogModel, ModelInputs, Offers
from mynth_dagster.tables.rules import RULES, Allowed, find_problems
from mynth_dagster.tables.schemas import REQUEST_TYPES

R1, R2, R3 = LIMITS_BY_REVISION.values()


def listing(*names, **told):
    """A server's catalogue that lists these models."""
    return Offers({name: CatalogModel(name, **told) for name in names})


FAMILY = "👩‍👩‍👧‍👦"  # seven characters of one picture


def invalid_text(*raw: bytes | None) -> pa.Array:
    """Strings with bytes that no check of Arrow has seen."""
    return pa.Array.from_buffers(pa.string(), len(raw), pa.array(raw, pa.binary()).buffers())


def metadata_of(n_bytes: int) -> str:
    """A JSON object that is ``n_bytes`` long once our own key is added at its longest."""
    ours = len(f',"{INTENT_TAG_KEY}":""') + INTENT_TAG_MAX_BYTES
    return json.dumps({"k": "x" * (n_bytes - ours - len('{"k":""}'))}, separators=(",", ":"))


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("prompt", None, "empty_prompt"),
        ("prompt", "", "empty_prompt"),
        ("prompt", " \t\u3000\u00a0", "empty_prompt"),
        ("prompt", "x" * 8193, "prompt_too_long"),
        ("prompt", FAMILY * 1171, "prompt_too_long"),
        ("negative_prompt", "x" * 8193, "negative_prompt_too_long"),
        ("model", "no spaces please", "invalid_model"),
        ("model", "v/m@2", "invalid_model"),
        ("size", "1:7", "unknown_size"),
        ("size", "Square", "unknown_size"),
        ("count", 0, "invalid_count"),
        ("count", -1, "invalid_count"),
        ("count", 21, "invalid_count"),
        ("count", 2**40, "invalid_count"),
        ("inputs", ["https://x"] * 21, "too_many_inputs"),
        ("inputs", ["https://x", " "], "empty_input"),
        ("inputs", ["https://x", None], "empty_input"),
        ("inputs", ["https://" + "x" * 2041], "input_url_too_long"),
        ("output_format", "gif", "invalid_output_format"),
        ("output_quality", 0, "invalid_output_quality"),
        ("output_quality", 101, "invalid_output_quality"),
        ("output_quality", 70_000, "invalid_output_quality"),
        ("enhance", "native", "invalid_enhance"),
        ("enhance", "yes", "invalid_enhance"),
        ("destination", "My Bucket", "invalid_destination"),
        ("destination", "x" * 65, "invalid_destination"),
        ("destination", "bucket\n", "invalid_destination"),
        ("metadata", "[1]", "invalid_metadata"),
        ("metadata", "{", "invalid_metadata"),
        ("metadata", "NaN", "invalid_metadata"),
        ("metadata", '{"a": NaN}', "invalid_metadata"),
        ("metadata", '{"a": "\\ud800"}', "invalid_metadata"),
        ("metadata", '{"a":' * 200_000 + "1" + "}" * 200_000, "invalid_metadata"),
        ("metadata", metadata_of(2049), "metadata_too_large"),
        ("metadata", f'{{"{INTENT_TAG_KEY}": "x"}}', "reserved_metadata_key"),
    ],
)
def test_bad_value_fails_its_row_alone(write, column, value, code):
    """A bad value is a problem of its row and its column; the row beside it is asked for."""
    good = {"prompt": "fine", "inputs": ["https://x/1.png"], "count": 1}.get(column)
    rows = {"prompt": ["fine", "fine"], column: [value, good]}

    written = write(rows)

    assert [(code, column), None] == written.problems()
    assert [row.row_index for row in written.planned()] == [1]
    (bad, _) = written.rows()
    assert bad["problem_message"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("prompt", "x" * 8192),
        ("prompt", FAMILY * 1170),
        ("prompt", "画" * 8192),
        ("negative_prompt", "é" * 8192),
        ("size", "16:9_4k"),
        ("size", "auto"),
        ("count", 20),
        ("inputs", ["https://" + "x" * 2040] * 20),
        ("output_quality", 1),
        ("output_quality", 100),
        ("destination", "x" * 64),
        ("metadata", metadata_of(2048)),
        ("metadata", "{}"),
        ("metadata", json.dumps({"note": f"about {INTENT_TAG_KEY}"})),
    ],
)
def test_value_at_its_limit_is_fine(write, column, value):
    """The last value that is allowed is asked for, unchanged."""
    (row,) = write({"prompt": ["fine"], column: [value]}).planned()

    if column in ("prompt", "negative_prompt", "size", "count"):
        assert value == getattr(row.request, column)


def test_limits_are_those_of_the_revision(write):
    """What an older revision takes is judged by its own limits, and the message says which."""
    rows = {
        "prompt": ["x" * 2057, "fine", "fine", "fine"],
        "count": [1, 100, 1, 1],
        "enhance": [None, None, "native", None],
        "output_quality": [None, None, None, 0],
    }

    written = write(rows, limits=R1)

    assert written.problems() == [("prompt_too_long", "prompt"), None, None, None]
    message = written.rows()[0]["problem_message"]
    assert message == "2057 characters, API revision 2026-04 takes up to 2056"


def test_metadata_is_measured_in_bytes(write):
    """Characters of several bytes count as many."""
    room = 2048 - INTENT_TAG_MAX_BYTES - len(f',"{INTENT_TAG_KEY}":""') - len('{"k":""}')
    fits, too_large = "é" * (room // 2), "é" * (room // 2 + 1)
    metadata = [json.dumps({"k": text}) for text in (fits, too_large)]

    problems = write({"prompt": ["a", "b"], "metadata": metadata}).problems()

    assert problems == [None, ("metadata_too_large", "metadata")]


def test_nested_metadata_may_mention_our_key(write):
    """Only the top level of the metadata is ours."""
    nested = json.dumps({"a": {INTENT_TAG_KEY: 1}})

    assert write({"prompt": ["a"], "metadata": [nested]}).problems() == [None]


def test_metadata_that_json_cannot_hold_is_a_problem(write):
    """A struct with a value that JSON has not fails its row."""
    metadata = pa.array([{"x": float("nan")}, {"x": 1.0}])

    problems = write({"prompt": ["a", "b"], "metadata": metadata}).problems()

    assert problems == [("invalid_metadata", "metadata"), None]


@pytest.mark.parametrize("name", [None, "", "  "])
def test_missing_id_fails_its_row(write, name):
    """A row without an id, where others have one, is refused under a derived name."""
    written = write({"prompt": ["a", "b"], "prompt_id": [name, "x"]})

    assert written.problems() == [("missing_prompt_id", "prompt_id"), None]
    assert written.rows()[0]["prompt_id"].startswith("row_")


@pytest.mark.parametrize("column", ["prompt", "prompt_id", "negative_prompt"])
def test_bytes_that_are_no_text_fail_their_row(write, column):
    """Invalid UTF-8, half surrogates included, is a problem and no crash."""
    texts = {"prompt": pa.array(["a", "b", "c"]), "prompt_id": pa.array(["1", "2", "3"])}
    table = pa.table({**texts, column: invalid_text(b"\xff", b"\xed\xa0\x80", b"fine")})

    written = write(table)

    assert [("invalid_text", column), ("invalid_text", column), None] == written.problems()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("prompt", "a\0b"),
        ("prompt_id", "a\0b"),
        ("prompt_id", "\0"),
        ("negative_prompt", "a\0"),
        ("model", "v/m\0"),
        ("size", "\0auto"),
        ("output_format", "png\0"),
        ("enhance", "magic\0"),
        ("destination", "shop\0"),
        ("inputs", ["https://x/1.png\0"]),
        ("inputs", [{"url": "https://x/1.png", "role": "auto\0"}]),
        ("input_key", "k\0"),
        ("metadata", '{"a": "b\\u0000"}'),
        ("metadata", '{"a\\u0000": {"b": 1}}'),
        ("metadata", {"a": {"b": ["\0"]}}),
    ],
)
def test_text_that_no_database_keeps_fails_its_row(write, column, value):
    """A NUL, wherever it hides, is refused with its row, and is in no name that is looked up."""
    good = {"prompt": "fine", "prompt_id": "x"}.get(column)
    rows = {"prompt": ["fine", "fine"], "prompt_id": ["1", "2"], column: [value, good]}

    written = write(rows)

    assert written.problems() == [("invalid_text", column), None]
    assert all("\0" not in row["request_key"] for row in written.rows())
    assert [row.row_index for row in written.planned()] == [1]


def test_text_that_only_speaks_of_nul_is_fine(write):
    """An escaped backslash before `u0000` is a backslash."""
    metadata = json.dumps({"a": "\\u0000"})

    assert write({"prompt": ["a"], "metadata": [metadata]}).problems() == [None]


def test_id_that_no_index_keeps_fails_its_row(write):
    """An id of more bytes than a key can have is refused; one at the limit is asked for."""
    ids = ["é" * (PROMPT_ID_MAX_BYTES // 2), "é" * (PROMPT_ID_MAX_BYTES // 2) + "x"]

    written = write({"prompt": ["a", "b"], "prompt_id": ids})

    assert written.problems() == [None, ("prompt_id_too_long", "prompt_id")]
    assert len(written.rows()[1]["request_key"]) < 40


@pytest.mark.parametrize("setting", [{"models": ("v/m\0",)}, {"negative_prompt": "a\0"}])
def test_default_that_no_database_keeps_is_refused(write, setting):
    """A NUL in the batch's own settings is a fault of the settings."""
    with pytest.raises(ConfigError, match=r"NUL character.*Nothing was sent"):
        write({"prompt": ["a"]}, **setting)


def carried_forms(*raw: bytes) -> dict[str, pa.Array]:
    """Columns of the user's own in which these texts are held in one way or another."""
    texts = invalid_text(*raw)
    n_rows = len(raw)
    ends = pa.array(range(n_rows + 1), pa.int32())
    return {
        "plain": texts,
        "list": pa.ListArray.from_arrays(ends, texts),
        "struct": pa.StructArray.from_arrays([texts], ["a"]),
        "map": pa.MapArray.from_arrays(ends, pa.array(["k"] * n_rows), texts),
        "dictionary": pa.DictionaryArray.from_arrays(pa.array(range(n_rows)), texts),
        "list of struct": pa.ListArray.from_arrays(
            ends, pa.StructArray.from_arrays([texts], ["a"])
        ),
    }


@pytest.mark.parametrize("form", list(carried_forms(b"")))
def test_carried_bytes_that_are_no_text_are_refused_by_row_and_column(write, form):
    """What no reader of the results could read again is named before anything is paid."""
    column = carried_forms(b"fine", b"caf\xe9")[form]

    with pytest.raises(TableError, match=r"row 1, column 'mine': the text is not valid UTF-8"):
        write(pa.table({"prompt": ["a", "b"], "mine": column}))


def test_input_that_is_no_text_fails_its_row(write):
    """Invalid UTF-8 inside a list is found too."""
    inputs = pa.ListArray.from_arrays(pa.array([0, 1, 2]), invalid_text(b"\xff", b"https://x"))

    written = write(pa.table({"prompt": ["a", "b"], "inputs": inputs}))

    assert written.problems() == [("invalid_text", "inputs"), None]


def test_first_problem_by_column_is_reported(write):
    """Of several problems the first in the order of columns is told."""
    rows = {"size": ["huge"], "prompt": [""], "count": [0]}

    assert write(rows).problems() == [("empty_prompt", "prompt")]


def test_unknown_model_of_a_row_is_a_problem(write):
    """A model that the server does not list fails its row, with the nearest name."""
    rows = {"prompt": ["a", "b", "c"], "model": ["v/flux", "v/flx", "auto"]}

    written = write(rows, offers=listing("v/flux", "v/other"))

    assert written.problems() == [None, ("unknown_model", "model"), None]
    assert "did you mean 'v/flux'?" in written.rows()[1]["problem_message"]


def test_rejected_row_is_reported_for_each_model(write):
    """A bad row is refused once per model, so that every request is accounted for."""
    written = write({"prompt": ["", "b"]}, models=("v/m1", "v/m2"))

    assert written.problems() == [("empty_prompt", "prompt")] * 2 + [None] * 2


def test_braces_in_a_value_are_shown_as_they_are(write):
    """A value that looks like a template is shown literally."""
    (row,) = write({"prompt": ["a"], "size": ["{size}"]}).rows()

    assert "'{size}' is no size" in row["problem_message"]


TEXT = st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["x" * 8193, "\u2003", "a\n"]))
ROW = st.fixed_dictionaries(
    {
        "prompt": TEXT,
        "negative_prompt": TEXT,
        "model": st.sampled_from(["auto", "v/m", "v/unknown", "a b", "x@y", "", "v/m\n"]),
        "size": st.one_of(st.none(), st.sampled_from(["1:1", "16:9_4k", "auto", "1:9", ""])),
        "count": st.integers(-2, 40),
        "inputs": st.one_of(
            st.none(),
            st.lists(
                st.fixed_dictionaries(
                    {
                        "url": st.sampled_from([None, "", " ", "https://x", "Data:,x", "h" * 2049]),
                        "role": st.none(),
                    }
                ),
                max_size=25,
            ),
        ),
        "output_format": st.sampled_from([None, "png", "gif", ""]),
        "output_quality": st.one_of(st.none(), st.integers(-5, 200)),
        "enhance": st.sampled_from([None, "magic", "native", "x"]),
        "destination": st.one_of(
            st.none(), st.text(max_size=4), st.sampled_from(["a-b", "a\n", "é"])
        ),
        "metadata": st.sampled_from(
            [None, "{}", metadata_of(2048), metadata_of(2049), f'{{"{INTENT_TAG_KEY}":1}}']
        ),
    }
)


GOOD = {
    "prompt_id": "x",
    **dict.fromkeys(REQUEST_TYPES),
    "prompt": "fine",
    "model": "v/m",
    "count": 1,
}
TYPES = {"prompt_id": pa.string(), **REQUEST_TYPES}


def columns_of(*rows):
    """Rows as the columns that rules look at."""
    return {name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()}


@settings(deadline=None, max_examples=300)
@given(
    rows=st.lists(ROW, min_size=1, max_size=6),
    limits=st.sampled_from([R1, R2, R3]),
    offers=st.sampled_from(
        [
            NOTHING_LISTED,
            Offers({"v/m": CatalogModel("v/m")}, frozenset({"a-b"})),
            Offers({"v/m": CatalogModel("v/m", takes_text=False, inputs=ModelInputs(2, 3))}),
            Offers({"v/m": CatalogModel("v/m", has_4k=False, inputs=ModelInputs(0, 0))}),
        ]
    ),
    fan_out=st.sampled_from([None, ("auto", "v/m")]),
    same=st.sets(st.sampled_from([name for name in REQUEST_TYPES if name != "prompt"])),
)
def test_a_row_is_judged_alike_alone_and_among_others(rows, limits, offers, fan_out, same):
    """Neither its neighbours, nor columns that are looked at once, change what is told of a row."""
    allowed = Allowed(limits, offers, fan_out)
    rows = [{**GOOD, **row, **{name: rows[0][name] for name in same}} for row in rows]

    alone = [find_problems(columns_of(row), allowed).get(0) for row in rows]

    together = find_problems(columns_of(*rows), allowed, constant=same)
    assert alone == [together.get(place) for place in range(len(rows))]


MODELS = Offers({"v/m": CatalogModel("v/m"), "v/other": CatalogModel("v/other")})
NO_INPUTS = Offers(
    {"v/m": CatalogModel("v/m", has_4k=False, takes_text=True, inputs=ModelInputs(0, 0))}
)
EDITS = Offers({"v/m": CatalogModel("v/m", takes_text=False, inputs=ModelInputs(2, 3))})
A_URL = {"url": "https://x/1.png", "role": None}
BREAKING = [  # cells, what they are judged by, and what the message has to tell
    ({"prompt_id": None}, Allowed(R2), "give each row its own"),
    ({"prompt": " \u200b"}, Allowed(R2), "no character that can be seen"),
    ({"prompt": "x" * 2057}, Allowed(R1), "2057 characters, API revision 2026-04 takes up to 2056"),
    ({"negative_prompt": "a\0"}, Allowed(R2), "NUL"),
    ({"negative_prompt": "x" * 8193}, Allowed(R3), "8193 characters, API revision 2026-10"),
    ({"model": "v/m\0"}, Allowed(R2), "NUL"),
    ({"model": "a b"}, Allowed(R2), "'a b' is no model id: 1 to 200"),
    ({"model": "v/othr"}, Allowed(R2, MODELS), "did you mean 'v/other'?"),
    ({"model": "v/x"}, Allowed(R2, fan_out_models=("v/m",)), "the batch's models are v/m"),
    ({"size": "16:10"}, Allowed(R2), "'16:10' is no size of API revision 2026-08; did you mean"),
    ({"count": 21}, Allowed(R3), "21 images, API revision 2026-10 takes 1 to 20"),
    ({"inputs": [A_URL] * 21}, Allowed(R2), "21 inputs, API revision 2026-08 takes up to 20"),
    ({"inputs": [A_URL, {"url": " ", "role": None}]}, Allowed(R2), "input 1 has no URL"),
    ({"inputs": [A_URL, {"url": "Data:,x", "role": None}]}, Allowed(R3), "input 1 is a data URI"),
    ({"inputs": [A_URL, {"url": "https://x", "role": "y"}]}, Allowed(R3), "'y', API revision 2026"),
    ({"inputs": [{"url": "https://" + "x" * 2041, "role": None}]}, Allowed(R2), "2049 characters"),
    ({"output_format": "gif"}, Allowed(R2), "'gif' is none of png, jpg, webp"),
    ({"output_quality": 80}, Allowed(R3), "has no output quality: leave it out"),
    ({"output_quality": 101}, Allowed(R2), "101, API revision 2026-08 takes 1 to 100"),
    ({"enhance": "native"}, Allowed(R2), "'native', API revision 2026-08 takes magic"),
    ({"destination": "a"}, Allowed(R1), "has no destinations: leave it out"),
    ({"destination": "A b"}, Allowed(R2), "'A b' is not 1 to 64 small letters"),
    (
        {"destination": "x"},
        Allowed(R2, Offers(destinations=frozenset({"shop"}))),
        "the account has no 'x'; known: shop",
    ),
    ({"metadata": f'{{"{INTENT_TAG_KEY}":1}}'}, Allowed(R2), "is reserved"),
    ({"metadata": metadata_of(2049)}, Allowed(R2), "2049 bytes as compact JSON"),
    ({"inputs": [A_URL]}, Allowed(R3, NO_INPUTS), "'v/m' takes no input images"),
    ({"size": "16:9_4k"}, Allowed(R3, NO_INPUTS), "'v/m' takes no 4k sizes"),
    ({}, Allowed(R3, EDITS), "'v/m' needs an input image"),
    ({"inputs": [A_URL] * 4}, Allowed(R3, EDITS), "4 inputs, 'v/m' takes up to 3"),
    ({"inputs": [A_URL]}, Allowed(R3, EDITS), "1 inputs, 'v/m' takes at least 2"),
]


def test_each_rule_is_broken_by_one_row_alone_and_tells_it():
    """For every rule: its mask finds the row, its message tells what is allowed, and no other."""
    assert len(BREAKING) == len(RULES)
    for cells, allowed, told in BREAKING:
        good = {**GOOD, "inputs": [A_URL] * 2 if allowed.offers is EDITS else None}
        columns = columns_of(good, {**GOOD, **cells}, good)

        (rule, *_) = broken = [rule for rule in RULES if rule.broken_by(columns, allowed)]

        assert all(list(rule.broken_by(columns, allowed)) == [1] for rule in broken)
        problem = rule.problem_of(columns, 1, allowed)
        assert (problem.code, problem.field) == (rule.code, next(iter(cells), "inputs"))
        assert told in problem.message
        assert find_problems(columns, allowed) == {1: problem}
    firsts = [
        next(rule for rule in RULES if rule.broken_by(columns_of({**GOOD, **cells}), allowed))
        for cells, allowed, _ in BREAKING
    ]
    assert firsts == sorted(RULES, key=firsts.index)
    assert {rule.code for rule in RULES} >= set(_OF_THE_SERVER)


def test_a_model_with_a_price_of_4k_is_asked_for_4k(write):
    """The live catalogue knows better than a list that was made when the revision came out."""
    rows = {"prompt": ["a"], "size": ["16:9_4k"], "model": ["black-forest-labs/flux.2-pro"]}
    told = {None: ("capability_not_supported", "size"), True: None}

    for has_4k, problem in told.items():
        written = write(rows, offers=listing(*rows["model"], has_4k=has_4k))
        assert written.problems() == [problem]


ONE_OR_TWO = ModelInputs(at_least=1, at_most=2)


@pytest.mark.parametrize(
    ("told", "n_inputs", "problem"),
    [
        ({}, 1, None),
        ({"takes_text": True, "inputs": ModelInputs(at_most=0)}, 0, None),
        ({"takes_text": True, "inputs": ModelInputs(at_most=0)}, 1, "'v/m' takes no input images"),
        ({"takes_text": False, "inputs": ONE_OR_TWO}, 0, "'v/m' needs an input image"),
        ({"takes_text": False, "inputs": ONE_OR_TWO}, 2, None),
        ({"takes_text": True, "inputs": ONE_OR_TWO}, 3, "3 inputs, 'v/m' takes up to 2"),
        ({"takes_text": True, "inputs": ModelInputs(2, None)}, 1, "1 inputs, 'v/m' takes at least"),
        ({"takes_text": True, "inputs": ModelInputs(2, None)}, 20, None),
    ],
)
def test_the_catalogue_tells_how_many_inputs_a_model_takes(write, told, n_inputs, problem):
    """A row with a number of inputs that its model does not take would be paid for in vain."""
    inputs = [[f"https://x/{n}.png" for n in range(n_inputs)]]
    rows = pa.table({"prompt": ["a"], "inputs": pa.array(inputs, pa.list_(pa.string()))})
    asked = {"models": ("v/m",), "limits": R3}

    (row,) = write(rows, **asked, offers=listing("v/m", **told)).rows()
    (unchecked,) = write(
        rows, **asked, offers=listing("v/m", **told), check_capabilities=False
    ).rows()

    assert row["problem_code"] == (problem and "capability_not_supported")
    assert (row["problem_message"] or "").startswith(problem or "")
    assert unchecked["problem_code"] is None


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ({"output_quality": 80}, "invalid_output_quality"),
        ({"enhance": "native"}, "invalid_enhance"),
        ({"inputs": [{"url": "https://x", "role": "person"}]}, "invalid_input_role"),
        ({"inputs": [{"url": "data:image/png;base64,AAAA", "role": None}]}, "input_data_uri"),
        ({"inputs": [{"url": "https://x", "role": None}]}, "capability_not_supported"),
        ({"size": "16:9_4k"}, "capability_not_supported"),
        ({"count": 21}, "invalid_count"),
        ({"prompt": "x" * 8193}, "prompt_too_long"),
    ],
)
def test_what_2026_10_does_not_do_is_reported_before_it_is_sent(cells, code):
    """A row that asks for it is refused alone, with the field's name and the way out."""
    row = {**GOOD, "model": "auto", **cells}

    problem = find_problems(columns_of(row), Allowed(R3))[0]

    assert (problem.code, problem.field) == (code, next(iter(cells)))


def test_a_destination_that_the_account_does_not_have_is_reported_with_those_it_has(write):
    """Mynth would refuse every row that names it."""
    rows = {"prompt": ["a", "b"], "destination": ["bukcet", "bucket"]}

    written = write(rows, offers=Offers(destinations=frozenset({"bucket"})))

    assert written.problems() == [("unknown_destination", "destination"), None]
    assert "did you mean 'bucket'?" in written.rows()[0]["problem_message"]
