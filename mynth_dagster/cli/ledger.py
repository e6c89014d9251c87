"""`mynth-dagster ledger`, `resolve` and `account`: ledgers, requests in doubt, and keys."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer

from mynth_dagster.cli.options import (
    BaseUrl,
    Identity,
    Ledger,
    Revision,
    Root,
    Window,
    engine_settings,
    written_batch,
)
from mynth_dagster.cli.output import AsJson, CommandOutput
from mynth_dagster.client.settings import DEFAULT_BASE_URL
from mynth_dagster.clock import SystemClock
from mynth_dagster.engine.recover import Rebuilt, rebuild
from mynth_dagster.engine.resolve import HeldRequest, attach, give_up, list_held
from mynth_dagster.engine.run import usd
from mynth_dagster.engine.session import EngineSettings, ledger_url_in, open_session
from mynth_dagster.errors import ConfigError
from mynth_dagster.followups.follow_ups import FollowUpWork
from mynth_dagster.ledger import Ledger as OpenLedger
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.batch_settings import EVERY_FOLLOW_UP
from mynth_dagster.models.money import format_usd
from mynth_dagster.tables.manifest import LedgerMark, read_mark, write_mark
from mynth_dagster.tables.store import PROMPTS, TableStore
from mynth_dagster.wire import AUTO_REVISION

app = typer.Typer(no_args_is_help=True, help="The ledger that tables belong to.")

BatchName = Annotated[str, typer.Option("--batch", help="Name of the batch.")]


@app.command("show")
def show(root: Root, batch: BatchName, ledger: Ledger = None, as_json: AsJson = False) -> None:
    """Show which ledger the tables of a batch know, and which one is here."""
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        here = asyncio.run(_mark_of(ledger or ledger_url_in(root, must_exist=True)))
        known = read_mark(TableStore(root, batch))
        known_in_words = _in_words(known) if known else "no ledger"
        output.result(
            {"tables": asdict(known) if known else None, "ledger": asdict(here)},
            f"The tables know {known_in_words}; here is {_in_words(here)}.",
        )


@app.command("adopt")
def adopt(root: Root, batch: BatchName, ledger: Ledger = None, as_json: AsJson = False) -> None:
    """
    Let the tables of a batch belong to this ledger from now on.

    Rows that it does not know are then sent, and paid for, although they may have been before.
    """
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        here = asyncio.run(_mark_of(ledger or ledger_url_in(root)))
        write_mark(TableStore(root, batch), here)
        output.result(
            {"batch": batch, "ledger": asdict(here)},
            f"The tables of {batch} belong to {_in_words(here)} from now on.",
        )


@app.command("rebuild")
def rebuild_ledger(
    root: Root,
    batch: BatchName,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    ledger: Ledger = None,
    identity: Identity = None,
    window: Window = None,
    as_json: AsJson = False,
) -> None:
    """
    Rebuild a lost ledger from the tables and Mynth's task list; sends nothing.

    The API key is read from MYNTH_API_KEY.
    """
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        url = ledger or ledger_url_in(root)
        settings = engine_settings(root, url, base_url, api_revision, 16)
        wanted = written_batch(root, batch, PROMPTS, window=window, identity=identity)
        found = asyncio.run(_rebuild(settings, wanted))
        output.result(
            asdict(found),
            f"{found.ledger_id}: {found.n_from_tables} requests from the tables, "
            f"{found.n_from_list} from the task list; {found.n_unplaced} tasks belong to no row "
            "of the prompt tables. The next run reads what became of them, free of charge.",
        )


async def _rebuild(settings: EngineSettings, batch: Batch) -> Rebuilt:
    async with open_session(settings) as session:
        follow_ups = [FollowUpWork(batch, one) for one in EVERY_FOLLOW_UP]
        return await rebuild(session, batch, follow_ups)


def _in_words(mark: LedgerMark) -> str:
    return f"{mark.ledger_id} at number {mark.number}"


async def _mark_of(url: str) -> LedgerMark:
    with closing(OpenLedger.open(url)) as opened:
        return LedgerMark(opened.ledger_id, await opened.newest_seq())


# `mynth-dagster resolve`: list requests in doubt, and resolve them.


def resolve(
    root: Root,
    intent_id: Annotated[
        str | None, typer.Argument(help="int_…; without it, all in doubt are listed.")
    ] = None,
    attach_task: Annotated[
        str | None, typer.Option("--attach", help="It was this task (tsk_…); it is read.")
    ] = None,
    resubmit: Annotated[
        bool, typer.Option("--resubmit", help="Send the row again: it may then be paid twice.")
    ] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give the row up.")] = False,
    batch: Annotated[str | None, typer.Option(help="List only this batch.")] = None,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """
    List rows whose paid request has an unknown outcome, or resolve one of them.

    The API key is read from MYNTH_API_KEY, for --attach alone.
    """
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        url = ledger or ledger_url_in(root, must_exist=True)
        choice = _one_of(attach=attach_task is not None, resubmit=resubmit, abandon=abandon)
        if choice is None:
            _list(output, url, batch)
        elif intent_id is None:
            raise ConfigError("INTENT_ID", f"--{choice} needs the id of one intent")
        elif attach_task is not None:
            settings = engine_settings(root, url, base_url, api_revision, 1)
            message = asyncio.run(_attach(settings, intent_id, attach_task))
            output.result(
                {"intent_id": intent_id, "task_id": attach_task, "outcome": message},
                f"{intent_id}: {attach_task} {message}; the next collection reads it.",
            )
        else:
            asyncio.run(_give_up(url, intent_id, resubmit=resubmit))
            then = "the next run sends its row again" if resubmit else "it is not waited for"
            output.result(
                {"intent_id": intent_id, "outcome": "abandoned", "is_sent_again": resubmit},
                f"{intent_id} is abandoned; {then}.",
            )


def _one_of(**chosen: bool) -> str | None:
    names = [name for name, is_chosen in chosen.items() if is_chosen]
    if len(names) > 1:
        raise ConfigError("resolve", f"choose one of --{', --'.join(names)}")
    return names[0] if names else None


def _list(output: CommandOutput, url: str, batch: str | None) -> None:
    with closing(OpenLedger.open(url)) as opened:
        if batch is not None:
            opened.read.require_batch(batch)
        rows = list_held(opened, batch, now_us=SystemClock().now_us())
    known = [row.exposure_units for row in rows if row.exposure_units is not None]
    unknown = f", {len(rows) - len(known)} of unknown price" if len(known) < len(rows) else ""
    output.result(
        {"in_doubt": [_as_json(row) for row in rows], "exposed_usd": usd(sum(known))},
        *(line for row in rows for line in _in_lines(row)),
        f"{len(rows)} in doubt, at most {format_usd(sum(known))} exposed{unknown}.",
    )


def _as_json(row: HeldRequest) -> dict[str, Any]:
    intent = row.intent
    return {
        "intent_id": intent.intent_id,
        "state": intent.state.value,
        "batch": intent.row.batch,
        "partition": Slice(intent.row.window, intent.fan_out).key,
        "request_key": intent.row.request_key,
        "age_s": row.age_s,
        "exposed_usd": usd(row.exposure_units),
        "attempts": [
            {
                "attempt": seen.attempt,
                "outcome": seen.outcome,
                "http_status": seen.http_status,
                "detail": seen.detail,
            }
            for seen in row.evidence
        ],
    }


def _in_lines(row: HeldRequest) -> list[str]:
    intent = row.intent
    where = Slice(intent.row.window, intent.fan_out).key
    first = (
        f"{intent.intent_id}  {intent.state.value}  {intent.row.batch} {where} "
        f"{intent.row.request_key}  {row.age_s / 60:.0f} min old, "
        f"exposed {format_usd(row.exposure_units)}"
    )
    lines = [first]
    for seen in row.evidence:
        status = f"HTTP {seen.http_status}, " if seen.http_status else ""
        lines.append(f"    attempt {seen.attempt}: {seen.outcome}, {status}{seen.detail or ''}")
    return lines


async def _attach(settings: EngineSettings, intent_id: str, task_id: str) -> str:
    async with open_session(settings) as session:
        return (await attach(session, intent_id, task_id)).value


async def _give_up(url: str, intent_id: str, *, resubmit: bool) -> None:
    with closing(OpenLedger.open(url)) as ledger:
        await give_up(ledger, intent_id, resubmit=resubmit)


# `mynth-dagster account`: list the keys of the ledger, and accept another one.


account_app = typer.Typer(no_args_is_help=True, help="The accounts and keys that a ledger knows.")


@account_app.command("list")
def list_accounts(root: Root, ledger: Ledger = None, as_json: AsJson = False) -> None:
    """List the keys that sent for this ledger, without the keys themselves."""
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        with closing(OpenLedger.open(ledger or ledger_url_in(root, must_exist=True))) as opened:
            known = opened.read.accounts()
        names = ("number", "base_url", "user_id", "key_id")
        lines = [
            f"{row.number}  {row.base_url}  account {row.user_id or 'not known'}, "
            f"key {row.key_id or 'not known'}"
            for row in known
        ]
        accounts = [{name: getattr(row, name) for name in names} for row in known]
        output.result({"accounts": accounts}, *lines)


@account_app.command("adopt")
def adopt_account(
    root: Root,
    base_url: BaseUrl = DEFAULT_BASE_URL,
    api_revision: Revision = AUTO_REVISION,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """
    Accept the key of MYNTH_API_KEY although it may be another account's.

    Rows that are done stay done; missing ones are paid for by this key's account. Tasks
    that the other account paid for cannot be read with it.
    """
    output = CommandOutput(as_json=as_json)
    with output.errors_as_exit_codes():
        url = ledger or ledger_url_in(root, must_exist=True)
        settings = engine_settings(root, url, base_url, api_revision, 1)
        number = asyncio.run(_adopt(settings))
        output.result({"number": number}, f"This key is number {number} of the ledger from now on.")


async def _adopt(settings: EngineSettings) -> int:
    async with open_session(settings) as session:
        return await session.account.adopt()
