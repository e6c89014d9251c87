"""The façade: every public name is there, listed once, and found where it lives."""

from __future__ import annotations

import pytest

import mynth_dagster


def test_the_public_names_are_sorted_and_are_what_dir_shows():
    """One list of names."""
    assert mynth_dagster.__all__ == sorted(mynth_dagster.__all__)
    assert dir(mynth_dagster) == mynth_dagster.__all__


@pytest.mark.parametrize("name", mynth_dagster.__all__)
def test_every_public_name_resolves(name):
    """On first use, and to the same thing from then on."""
    assert getattr(mynth_dagster, name) is getattr(mynth_dagster, name)


def test_the_version_is_the_distributions():
    """Known without being written twice."""
    assert mynth_dagster.__version__[0].isdigit()


def test_an_unknown_name_is_an_attribute_error():
    """As with any module."""
    with pytest.raises(AttributeError, match="no_such_name"):
        mynth_dagster.no_such_name  # noqa: B018
