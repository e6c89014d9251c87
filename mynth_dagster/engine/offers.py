"""
What the server lists, free of charge: its models, and the account's own storage.

A courtesy: it tells mistakes before they are sent. Without it Mynth itself checks each request.
"""

from __future__ import annotations

from mynth_dagster.engine.session import Session
from mynth_dagster.errors import ApiError
from mynth_dagster.models.task import CatalogModel, Offers


async def ask_offers(session: Session, *, with_destinations: bool) -> Offers:
    """The catalogue, and if wanted the account's own storage; raises for nothing it is not told."""
    destinations = await list_destinations(session) if with_destinations else None
    return Offers(await _list_models(session), destinations)


async def list_destinations(session: Session) -> frozenset[str] | None:
    """The account's own storage by name; None where the key or the revision does not tell it."""
    if not session.client.profile.HAS_DESTINATIONS:
        return None
    try:
        return await session.client.list_destinations()
    except ApiError:
        return None


async def _list_models(session: Session) -> dict[str, CatalogModel] | None:
    if not session.client.profile.HAS_CATALOG:
        return None
    try:
        return await session.client.get_catalog()
    except ApiError:
        return None
