"""``where``: what is taken, and what is refused before it runs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pyarrow as pa
import pytest

from vision_ift._errors import RecipeError
from vision_ift._recipe import condition as _condition
from vision_ift._recipe.condition import COLUMNS, FUNCTIONS, Condition


def rows(**columns: list[object]) -> pa.Table:
    return pa.table({name: pa.array(values, COLUMNS[name]) for name, values in columns.items()})


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("rounds >= 2", [False, True, True]),
        ("rounds BETWEEN 2 AND 2 OR id = 'a'", [True, True, False]),
        ("id IN ('a', 'c')", [True, False, True]),
        ("id NOT IN ('a') AND NOT rounds = 3", [False, True, False]),
        ("rounds % 2 = 1", [True, False, True]),
        ("rounds / 2 > 1.2", [False, False, True]),
        ("task IS NULL", [False, False, True]),
        ("task = 'vqa'", [True, False, False]),
        ("coalesce(task, 'none') <> 'vqa'", [False, True, True]),
        ("task IS DISTINCT FROM 'vqa'", [False, True, True]),
        ("task LIKE '%cap%'", [False, True, False]),
        ("task ILIKE 'V_A'", [True, False, False]),
        ("regexp_matches(task, '^(vqa|ocr)$')", [True, False, False]),
        ("lower(upper(id)) = 'b'", [False, True, False]),
        ("starts_with(task, 'v') AND length(task) < 4", [True, False, False]),
        ("meta->>'$.score' > '0.5'", [True, False, False]),
        ("CAST(meta->>'$.score' AS DOUBLE) <= 0.5", [False, True, False]),
        ("TRY_CAST(id AS INTEGER) IS NULL", [True, True, True]),
        ("json_array_length(meta, '$.boxes') = 2", [False, False, True]),
        ("CASE WHEN rounds = 1 THEN true ELSE id = 'c' END", [True, False, True]),
        ("if(rounds = 1, id = 'a', false)", [True, False, False]),
        ("true -- all", [True, True, True]),
    ],
)
def test_conditions_on_one_row(where: str, wanted: list[bool]) -> None:
    condition = Condition(where)
    table = rows(
        id=["a", "b", "c"],
        task=["vqa", "caption", None],
        rounds=[1, 2, 3],
        meta=['{"score": 0.9}', '{"score": 0.5}', '{"boxes": [1, 2]}'],
    )
    assert condition.columns <= set(table.column_names)
    assert condition.test(table).tolist() == wanted


#: Hostile or wrong, and what the message holds beside the condition itself.
REFUSED = [
    # files, the network, the machine
    ("EXISTS (SELECT * FROM read_csv('/etc/passwd'))", "has a subquery"),
    ("id IN (SELECT content FROM read_text('/etc/passwd'))", "has a subquery"),
    ("read_text('/etc/passwd') = 'x'", "calls read_text"),
    ("read_blob('/etc/passwd') IS NULL", "calls read_blob"),
    ("(FROM '/etc/passwd') IS NULL", "has a subquery"),
    ("1) FROM read_text('/etc/passwd') --", "is not SQL"),
    ("true) AS keep FROM conversations UNION ALL SELECT (true", "is not one condition"),
    ("true) AS keep FROM conversations WHERE (true", "is not SQL"),
    ("true), (true", "is not one condition"),
    ("true); DROP TABLE conversations; --", "is not SQL"),
    ("true); COPY conversations TO '/tmp/x'; SELECT (true", "is not SQL"),
    ("true); ATTACH '/tmp/x.db' AS x; SELECT (true", "is not SQL"),
    ("true); INSTALL httpfs; SELECT (true", "is not SQL"),
    ("true); LOAD httpfs; SELECT (true", "is not SQL"),
    ("true); SET threads=64; SELECT (true", "is not SQL"),
    ("true); PRAGMA database_list; SELECT (true", "is not SQL"),
    ("ATTACH 'x.db'", "where"),
    ("PRAGMA version", "is not SQL"),
    ("COPY conversations TO 'x'", "is not SQL"),
    ("SELECT true", "has a subquery"),
    ("getenv('HOME') = 'x'", "calls getenv"),
    ("current_setting('threads') = 1", "calls current_setting"),
    ("getvariable('x') = 1", "calls getvariable"),
    ("current_user = 'x'", "no column named 'current_user'"),
    ("nextval('s') = 1", "calls nextval"),
    ("error('x')", "calls error"),
    ("query('SELECT 1') = 1", "calls query"),
    ("main.lower(id) = 'x'", "calls lower"),
    ("json_execute_serialized_sql('x') = 1", "calls json_execute_serialized_sql"),
    # clocks and chance
    ("random() < 0.5", "calls random"),
    ("uuid() = 'x'", "calls uuid"),
    ("now() > now()", "calls now"),
    ("current_date > DATE '2020-01-01'", "no column named 'current_date'"),
    ("hash(id) % 10 = 0", "calls hash"),
    ("sleep_ms(100000) = 1", "calls sleep_ms"),
    # more than one row
    ("row_number() OVER () = 1", "has a window"),
    ("count(*) > 1", "calls count_star"),
    ("max(rounds) > 1", "calls max"),
    ("rounds = ALL (SELECT 1)", "has a subquery"),
    ("columns('r.*') > 1", "has a star"),
    ("unnest([true])", "calls unnest"),
    # memory and time
    ("length(repeat(id, 1000000000)) > 3", "calls repeat"),
    ("length(lpad(id, 1000000000, 'x')) > 3", "calls lpad"),
    ("printf('%1000000000d', 1) = 'x'", "calls printf"),
    ("id || id || id = 'x'", "calls ||"),
    ("replace(id, 'a', meta) = 'x'", "calls replace"),
    ("list_sum(range(1000000000)) > 1", "calls list_sum"),
    ("generate_series(1, 1000000000) IS NULL", "calls generate_series"),
    ("list_filter(range(9), lambda x: x > 1) IS NULL", "calls list_filter"),
    ("[x FOR x IN range(9)] IS NULL", "calls list_apply"),
    ("x -> x", "has a lambda"),
    ("meta->'key' IS NULL", "has a lambda; write meta->>'$.key'"),
    ("meta LIKE '%a_%a_%a_%a_%b'", "regexp_matches(column, 'a.*b.*c') takes any number"),
    ("meta ILIKE '%a%b'", "has a LIKE whose pattern"),
    ('"~~"(meta)', "has a LIKE whose pattern"),
    ('"~~"()', "has a LIKE whose pattern"),
    ("meta NOT ILIKE id", "has a LIKE whose pattern"),
    ("meta GLOB '*a*a*a*b'", "calls ~~~"),
    ("meta LIKE '!%a' ESCAPE '!'", "calls like_escape"),
    ("levenshtein(meta, meta) > 1", "calls levenshtein"),
    ("NOT " * 2400 + "true", "is not SQL: Max expression depth"),
    ("id = '" + "x" * 20_000 + "'", "is 20,007 characters long; at most 10,000"),
    # wrong
    ("", "is empty"),
    (" \n", "is empty"),
    ("-- nothing", "where"),
    ("rounds >", "is not SQL: syntax error"),
    ("id = 'x", "is not SQL: unterminated"),
    ("rounds = 1 /*", "is not SQL"),
    ("round >= 2", "no column named 'round'; did you mean rounds?"),
    ("conversations.id = 'x'", "no column named 'conversations.id'"),
    ("meta.score > 1", "no column named 'meta.score'"),
    ("rowid = 1", "no column named 'rowid'"),
    ("startswith(id, 'a')", "calls startswith; did you mean starts_with?"),
    ("rounds", "gives int64, not true or false; compare it with something"),
    ("'true'", "gives string, not true or false"),
    ("NULL", "not true or false"),
    ("id < 5", "fails: Binder Error: Cannot compare"),
    ("abs(id) = 1", "fails: Binder Error: No function matches"),
    ("lower(id, id) = 'x'", "fails: Binder Error: No function matches"),
    ("regexp_matches(id, '(')", "fails: Invalid Input Error: missing )"),
    ("id = $1", "has a parameter"),
    ("id = ?", "has a parameter"),
    ("id COLLATE nocase = 'x'", "has a collate"),
    ("id::json IS NULL", "casts to "),
    ("id::INTEGER[] IS NULL", "casts to "),
    ("try(rounds) = 1", "has a operator try"),
    ("(rounds, images) = (1, 2)", "calls row"),
    ("{'a': 1}.a = 1", "has a struct extract"),
    ("DEFAULT", "has a default"),
]


@pytest.mark.parametrize(("where", "message"), REFUSED, ids=[where[:30] for where, _ in REFUSED])
def test_anything_else_is_refused(where: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Condition(where)
    assert message in str(caught.value)
    assert str(caught.value).startswith("where ")
    assert len(str(caught.value)) < 500


def test_a_row_on_which_it_fails_is_an_error() -> None:
    condition = Condition("CAST(id AS INTEGER) > 3")
    with pytest.raises(RecipeError, match=r"fails: Conversion Error.*; TRY_CAST gives NULL"):
        condition.test(rows(id=["5", "five"]))
    assert condition.test(rows(id=["5", "2"])).tolist() == [True, False]


def test_nothing_that_a_condition_may_call_makes_long_text() -> None:
    long = {
        "repeat",
        "lpad",
        "rpad",
        "concat",
        "||",
        "replace",
        "regexp_replace",
        "format",
        "range",
    }
    assert not FUNCTIONS & long


def test_the_database_reaches_nothing_and_stays_so() -> None:
    import duckdb

    connection = _condition._database().cursor()
    for statement in (
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/vision_ift_should_not_exist'",
        "ATTACH '/tmp/vision_ift_should_not_exist.db' AS x",
        "INSTALL httpfs",
        "SET enable_external_access=true",
        "SET memory_limit='100GB'",
    ):
        with pytest.raises(duckdb.Error):
            connection.execute(statement)


def test_a_condition_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Condition(" AND ".join(["regexp_matches(meta, '([a-z ]{1,30}){1,30}z$')"] * 5))
    table = rows(meta=[f"{n} {'lorem ipsum ' * 50}" for n in range(300_000)])
    monkeypatch.setattr(_condition, "_MAX_SECONDS", 0.2)
    # What runs to its end takes seconds; a query that cannot be interrupted would pass here.
    with pytest.raises(RecipeError, match=r"takes more than 0\.2 s for 300,000 rows; write it"):
        slow.test(table)


HOSTILE_WORDS = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
import pyarrow as pa
from vision_ift._recipe.condition import Condition
rows = pa.table({"meta": ["a" * 100_000] * 200, "id": [str(n) for n in range(200)]})
for where in (
    "meta LIKE '%a_a_a_b%'",
    "meta ILIKE 'A%A_b%'",
    "regexp_matches(meta, '(a*)*(a*)*b')",
    "regexp_matches(meta, '^(a|aa)+$') AND id = 'x'",
    "json_valid(meta)",
):
    try:
        Condition(where).test(rows)
    except Exception as error:
        assert type(error).__name__ == "RecipeError", error
print("done")
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="no limit on memory here")
def test_patterns_that_trouble_other_engines_end_soon() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE_WORDS],
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
