"""What agents read: `llms.txt` and the skill have their forms, and all that they name is there."""

from __future__ import annotations

import re

import dagster as dg
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from mynth_dagster import MynthImagesComponent
from tests.docs.markdown import DOCS, LLMS, ROOT, SKILL, blocks, links, read


def test_llms_txt_has_its_form():
    """A title, a summary, facts without headings, then sections of links with notes."""
    head, *sections = re.split(r"^## .+$", read(LLMS), flags=re.MULTILINE)

    assert re.match(r"# mynth-dagster\n\n(> .+\n)+\n", head)
    assert head.count("# ") == 1
    assert sections
    for section in sections:
        entries = section.strip().splitlines()
        assert entries
        assert all(re.fullmatch(r"- \[[^]]+\]\([^)]+\): .+", entry) for entry in entries)


def test_llms_txt_lists_every_page():
    """A new page needs its line there; decisions are behind their list."""
    linked = {(ROOT / link).resolve() for link in links(LLMS)}

    assert set(DOCS.glob("*.md")) <= linked
    assert SKILL in linked


def test_the_skill_has_its_form():
    """Front matter with the folder's name and a description of at most 1,024 characters."""
    _, front, body = read(SKILL).split("---\n", 2)
    matter = yaml.safe_load(front)

    assert matter.keys() == {"name", "description"}
    assert matter["name"] == SKILL.parent.name
    assert len(matter["description"]) <= 1024
    assert body.lstrip().startswith("# ")


def test_the_skills_component_loads():
    """The YAML that agents are told to write."""
    (contents,) = (yaml.safe_load(block) for block in blocks(SKILL, "yaml"))

    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=MynthImagesComponent, defs_yaml_contents=contents
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, defs):
            assert dg.AssetKey(["shots", "images"]) in defs.resolve_all_asset_keys()
