"""Extras: the package works without them, and says what to install where one is needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from mynth_dagster.extras import MODULES
from mynth_dagster.simulator import SimulatorServer
from tests.docs.markdown import ROOT
from tests.factories import KEY, MODEL, write_parquet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ALL_MODULES = sorted({module for modules in MODULES.values() for module in modules})
WITHOUT_EXTRAS = f"import sys; sys.modules.update(dict.fromkeys({ALL_MODULES!r})); "
COMMAND = WITHOUT_EXTRAS + "from mynth_dagster.cli.main import main; main()"
DEFINITIONS = """
import dagster as dg
from mynth_dagster import Delivery, Files, FollowUp, ImageRequest, MynthResource
from mynth_dagster import build_image_batch

batch = build_image_batch(
    "shots",
    prompts="p.parquet",
    request=ImageRequest(follow_ups=[FollowUp(table="ratings")]),
    delivery=Delivery(files=Files()),
)
defs = dg.Definitions.merge(batch, dg.Definitions(resources={"mynth": MynthResource(root=".")}))
assert dg.AssetKey(["shots", "files"]) in defs.resolve_all_asset_keys()
"""


def without_extras(code: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which no module of an extra can be imported."""
    return subprocess.run(  # noqa: PLW1510 - the tests look at the code
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def names_in(requirements: list[str]) -> set[str]:
    """The distributions that a list of requirements names."""
    return {re.split(r"[^\w.-]", line)[0].lower() for line in requirements}


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_installs_the_modules_that_are_looked_for(extra):
    """What is reported as missing is there after the command that the message names."""
    installed = names_in(PROJECT["optional-dependencies"][extra])
    for module in MODULES[extra]:
        assert installed & {name.lower() for name in packages_distributions()[module]}


def test_the_package_alone_installs_no_extra():
    """Else nothing would be lean; and `all` is every extra that a user may miss."""
    extras = PROJECT["optional-dependencies"]
    assert not names_in(PROJECT["dependencies"]) & set().union(
        *(names_in(extras[e]) for e in MODULES)
    )
    assert extras["all"] == [f"mynth-dagster[{','.join(MODULES)}]"]


def test_a_table_is_made_without_extras(simulator: Callable[..., SimulatorServer], tmp_path: Path):
    """Planned, priced, sent and collected, with the files of its images."""
    mynth = simulator(progress="immediate")
    table = write_parquet(tmp_path / "kites.parquet", 2)
    options = ["--root", str(tmp_path), "--model", MODEL, "--files"]

    ran = without_extras(
        COMMAND, "run", table, *options, MYNTH_API_KEY=KEY, MYNTH_BASE_URL=mynth.url
    )

    assert ran.returncode == 0, ran.stderr
    assert "2 to send, exactly $" in ran.stderr
    assert "2 files kept" in ran.stderr


def test_definitions_load_without_extras():
    """With files and follow-ups; nothing of them needs an extra."""
    loaded = without_extras(WITHOUT_EXTRAS + DEFINITIONS)

    assert loaded.returncode == 0, loaded.stderr


def test_previews_name_their_extra_when_the_batch_is_defined():
    """The location does not load, so that no run pays for images that nobody can show."""
    with_previews = DEFINITIONS.replace("files=Files()", "previews=12")
    loaded = without_extras(WITHOUT_EXTRAS + with_previews)

    assert "delivery.previews: PIL is not installed" in loaded.stderr
    assert "pip install 'mynth-dagster[files]'" in loaded.stderr


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("simulator", ["simulate"]),
        ("webhook", ["webhook", "--root", "."]),
        ("postgres", ["status", "--root", ".", "--ledger", "postgresql://nobody@127.0.0.1/none"]),
        ("s3", ["run", "s3://shop/kites.parquet", "--root", "."]),
        ("s3", ["run", "kites.parquet", "--root", "s3://shop", "--ledger", "sqlite:///l.db"]),
        ("s3", ["run", "kites.parquet", "--root", ".", "--files-store", "s3://shop"]),
        ("s3", ["run", "kites.parquet", "--root", ".", "--inputs-root", "s3://shop"]),
    ],
    ids=lambda value: " ".join(value[:5]) if isinstance(value, list) else value,
)
def test_a_command_names_the_extra_that_it_needs(
    extra: str,
    arguments: list[str],
    simulator: Callable[..., SimulatorServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """In one sentence with the command, as a wrong setting, before anything is sent."""
    mynth = simulator()
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "kites.parquet", 2)

    ran = without_extras(COMMAND, *arguments, MYNTH_API_KEY=KEY, MYNTH_BASE_URL=mynth.url)

    assert ran.returncode == 2, ran.stderr
    assert f"is not installed; run pip install 'mynth-dagster[{extra}]'" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert mynth.log()["totals"]["accepted"] == 0


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ("simulator", "import mynth_dagster.simulator.server"),
        ("webhook", "import mynth_dagster.webhook.app"),
    ],
)
def test_importing_a_part_names_its_extra(extra: str, code: str):
    """As an error of the package that is an ImportError too, so that importers can go without."""
    ran = without_extras(
        f"{WITHOUT_EXTRAS}\ntry:\n    {code}\nexcept ImportError as error:\n    print(error)"
    )

    assert f"run pip install 'mynth-dagster[{extra}]'" in ran.stdout, ran.stderr


def test_doctor_reports_a_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As a problem among the others."""
    monkeypatch.chdir(tmp_path)
    where = [
        "--root",
        "s3://shop",
        "--ledger",
        "sqlite:///l.db",
        "--base-url",
        "http://127.0.0.1:9",
    ]

    ran = without_extras(COMMAND, "doctor", *where)

    assert ran.returncode == 1
    assert "PROBLEM  tables" in ran.stdout
    assert "run pip install 'mynth-dagster[s3]'" in ran.stdout


def test_a_row_whose_input_needs_an_extra_says_so(
    simulator: Callable[..., SimulatorServer], tmp_path: Path
):
    """It is one row's fault: the others are sent."""
    mynth = simulator(progress="immediate")
    rows: list[dict[str, Any]] = [
        {"prompt": "a red kite", "inputs": [{"url": "s3://shop/kite.png", "role": None}]},
        {"prompt": "a blue kite", "inputs": None},
    ]
    table = write_parquet(tmp_path / "kites.parquet", rows)
    options = ["--root", str(tmp_path), "--model", MODEL]

    ran = without_extras(
        COMMAND, "run", table, *options, MYNTH_API_KEY=KEY, MYNTH_BASE_URL=mynth.url
    )

    assert ran.returncode == 0, ran.stderr
    assert "1 input_unreadable" in ran.stderr
