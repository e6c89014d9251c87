"""Users' own storage: management, and what its images tell."""

from __future__ import annotations

import pytest

from mynth_dagster.simulator import Scenario, ScenarioError

S3 = {"id": "s3", "bucket": "pictures", "region": "eu-central-1"}
KEYS = {"access_key_id": "a", "secret_access_key": "s"}
CONFIG = {"path_template": "images/{id}", "url_template": "https://img.example/{path}"}
WISH = {"name": "mine", "provider": S3, "config": CONFIG, "secret": KEYS}


@pytest.fixture(params=["2026-08", "2026-10"])
def managing(request, connect):
    """A client that may manage destinations."""
    return connect(revision=request.param, quirks={"webhook_management": "api_key"})


def test_a_destination_is_made_read_replaced_and_deleted(managing):
    """Its secret is never shown, and its name stays."""
    made = managing.client.post("/destinations", json=WISH)
    entry = managing.open(made)
    path = f"/destinations/{entry['id']}"
    changed = {"provider": {**S3, "bucket": "others"}, "config": {"path_template": "{ulid}"}}
    replaced = managing.client.put(path, json=changed)

    assert (made.status_code, replaced.status_code) == (201, 200)
    assert set(entry) == {
        *("id", "name", "provider", "config"),
        *(managing.word("createdAt"), managing.word("updatedAt")),
    }
    assert managing.get("/destinations") == [managing.get(path)]
    assert managing.open(replaced)["name"] == "mine"
    assert managing.open(replaced)["config"] == {"path_template": "{ulid}"}
    assert managing.client.post(f"{path}/test", json={"path": "probe"}).status_code == 204
    assert managing.client.delete(path).status_code == 204
    assert managing.get("/destinations") == []
    assert managing.client.get(path).status_code == 404


def test_a_key_of_2026_08_may_not_manage_destinations(api):
    """They ask for a sign-in there; 2026-04 has none."""
    assert api.error(api.client.get("/destinations")) == (401, "unauthorized")


def test_2026_04_has_no_destinations(old_api):
    """The path is unknown."""
    assert old_api.client.get("/destinations").status_code == 404


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"name": "My Bucket"}, [["name"]]),
        ({"provider": {"id": "ftp"}}, [["provider", "id"]]),
        ({"provider": {"id": "s3", "bucket": "x"}}, [["provider", "region"]]),
        ({"provider": {**S3, "zone": 1}}, [["provider", "zone"]]),
        ({"config": {"path_template": ""}}, [["config", "path_template"]]),
        (
            {"config": {"path_template": "x", "url_template": "https://a.example"}},
            [["config", "url_template"]],
        ),
        ({"secret": {"password": "x"}}, [["secret", "password"], ["secret", "access_key_id"]]),
        (
            {"provider": {"id": "bunny", "storage_zone": "z"}, "secret": {"password": "x"}},
            [],
        ),
        (
            {"provider": {"id": "r2", "account_id": "a", "bucket": "b", "jurisdiction": "eu"}},
            [],
        ),
    ],
)
def test_a_destination_is_checked(new_api, changes, paths):
    """Each kind of storage has fields of its own."""
    answer = new_api.client.post("/destinations", json={**WISH, **changes})
    if not paths:
        assert answer.status_code == 201
    else:
        assert new_api.issues(answer)[: len(paths)] == paths


def test_a_name_is_taken_once(new_api):
    """By one destination of the account; another account may take it too."""
    new_api.client.post("/destinations", json=WISH)

    assert new_api.issues(new_api.client.post("/destinations", json=WISH)) == [["name"]]


def test_only_own_destinations_are_taken_by_2026_10(connect):
    """Those of the scenario, whatever it says of them, and those made over the API."""
    api = connect(
        revision="2026-10",
        destinations=["listed"],
        private_destinations=["vault"],
        failing_destinations=["broken"],
    )
    refused = api.post(destination="mine")
    api.client.post("/destinations", json=WISH)

    assert api.issues(refused) == [["destination"]]
    names = ["listed", "vault", "broken", "mine"]
    assert [entry["name"] for entry in api.get("/destinations")] == names
    assert {api.post(destination=name).status_code for name in names} == {201}


def test_destinations_of_other_accounts_are_unknown(connect):
    """By name and by id."""
    keys = [{"key": "mak_a", "user_id": "user_a"}, {"key": "mak_b", "user_id": "user_b"}]
    api = connect("mak_a", revision="2026-10", api_keys=keys)
    made = api.open(api.client.post("/destinations", json=WISH))
    other = connect("mak_b", reset=False)

    assert other.client.get(f"/destinations/{made['id']}").status_code == 404
    assert other.issues(other.post(destination="mine")) == [["destination"]]


def test_an_image_has_the_url_of_its_destination(new_api):
    """By the templates, with an extension; Mynth keeps a copy."""
    template = "{YYYY}/{meta.sku}/{ulid}"
    config = {"path_template": template, "url_template": "https://img.example/p/{path}?v=1"}
    new_api.client.post("/destinations", json={**WISH, "config": config})
    task = new_api.finish(destination="mine", metadata={"sku": "A-1"}, output={"format": "png"})
    image = task["result"]["images"][0]

    ulid = image["id"].removeprefix("img_")
    year = task["updated_at"][:4]
    assert image["url"] == f"https://img.example/p/{year}/A-1/{ulid}.png?v=1"
    assert image["mynth_url"].endswith(f"/cdn/{image['id']}.png")
    assert image["destination"] == {"status": "success", "name": "mine"}


@pytest.mark.parametrize(
    ("fields", "name", "status"),
    [
        ({"destinations": ["bare"]}, "bare", "success"),
        ({"private_destinations": ["vault"]}, "vault", "success"),
        ({"failing_destinations": ["broken"]}, "broken", "failed"),
    ],
)
def test_an_image_may_have_no_public_url(connect, fields, name, status):
    """Without a template, or where the storage did not take it; the task completes."""
    api = connect(revision="2026-10", **fields)
    task = api.finish(destination=name)
    image = task["result"]["images"][0]

    assert (task["status"], image["url"], image["destination"]["status"]) == (
        "completed",
        None,
        status,
    )
    assert api.client.get(image["mynth_url"]).status_code == 200


def test_a_destination_that_fails_fails_its_test(connect):
    """With a status of its own."""
    api = connect(revision="2026-10", failing_destinations=["broken"])
    (entry,) = api.get("/destinations")
    answer = api.client.post(f"/destinations/{entry['id']}/test", json={"path": "probe"})

    assert api.error(answer) == (502, "destination_test_failed")


def test_a_deleted_destination_leaves_its_images_their_urls(new_api):
    """They are where they are."""
    entry = new_api.open(new_api.client.post("/destinations", json=WISH))
    task = new_api.finish(destination="mine")
    new_api.client.delete(f"/destinations/{entry['id']}")

    assert new_api.detail(task["id"])["result"] == task["result"]
    assert new_api.issues(new_api.post(destination="mine")) == [["destination"]]


def test_a_changed_scenario_adds_what_it_names_anew(connect):
    """And does not bring back what was deleted over the API."""
    api = connect(revision="2026-10", destinations=["mine"])
    (entry,) = api.get("/destinations")
    api.client.delete(f"/destinations/{entry['id']}")
    api.server.set_scenario(balance_usd="7")
    before = api.get("/destinations")
    api.server.set_scenario(destinations=["mine", "other"])

    assert before == []
    assert [entry["name"] for entry in api.get("/destinations")] == ["other"]


def test_a_url_template_needs_its_path():
    """Otherwise all images would have one URL."""
    storage = {"name": "mine", "url_template": "https://img.example/"}
    with pytest.raises(ScenarioError, match="url_template must contain"):
        Scenario.from_dict({"destinations": [storage]})
