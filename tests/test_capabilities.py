"""What is known of the models of each revision."""

from __future__ import annotations

from collections import Counter

import pytest

from mynth_dagster.capabilities import FOUR_K, INPUTS, MODELS_BY_REVISION, is_known_to_lack
from mynth_dagster.limits import LIMITS_BY_REVISION


def test_every_revision_with_limits_has_models():
    """Both tables speak of the same revisions."""
    assert list(MODELS_BY_REVISION) == list(LIMITS_BY_REVISION)


@pytest.mark.parametrize(
    ("revision", "n_models", "n_with_inputs", "n_with_4k"),
    [("2026-04", 19, 8, 2), ("2026-08", 44, 34, 6), ("2026-10", 57, 43, 7)],
)
def test_models_are_counted(revision, n_models, n_with_inputs, n_with_4k):
    """A line that is lost or misread shows in these counts."""
    models = MODELS_BY_REVISION[revision].values()
    words = Counter(word for model in models for word in model.capabilities)

    assert (len(models), words[INPUTS], words[FOUR_K]) == (n_models, n_with_inputs, n_with_4k)


@pytest.mark.parametrize(
    ("model_id", "capability", "lacks"),
    [
        ("black-forest-labs/flux-3", FOUR_K, False),
        ("black-forest-labs/flux-3", INPUTS, False),
        ("ideogram/ideogram-4.5", FOUR_K, True),
        ("recraft/recraft-v4", INPUTS, True),
        ("alibaba/qwen-image-2.1-pro", INPUTS, False),
        ("nobody/nothing", INPUTS, False),
    ],
)
def test_only_what_is_known_to_be_lacking_is_reported_to_lack(model_id, capability, lacks):
    """A model without known capabilities, or without a line, is not called incapable."""
    assert is_known_to_lack(model_id, capability, "2026-10") is lacks
