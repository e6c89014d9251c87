"""
Ways to break the promise, each a change of a few words, and the tests that must notice.

`python -m tests.mutants` applies one after the other to a copy and expects red.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """
    A wrong program.

    Args:
        name: What is wrong with it.
        old: Text that stands exactly once in the file.
        new: What stands there instead.
        tests: Files or tests of which at least one must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


SUBMIT = "mynth_dagster/engine/submit.py"
PICTURES = "mynth_dagster/client/download.py"
WEBHOOK = "mynth_dagster/webhook/app.py"
LOST_RESPONSES = "mynth_dagster/engine/lost_responses.py"

MUTANTS = (
    Mutant(
        "the intent is recorded after the request",
        SUBMIT,
        """        if not await self._claim_after(lane, delivery, intent, claimant):
            return None
""",
        """        answer = await session.client.create_task(content, doing_of(delivery.request))
        is_ours = await self._claim_after(lane, delivery, intent, claimant)
        if is_ours and isinstance(answer, Accepted):
            lane.recording = self._answers.begin(intent, answer)
        return None
""",
        ("tests/engine/test_submit.py",),
    ),
    Mutant(
        "a lost answer is a reason to send again",
        SUBMIT,
        """            await self._answers.unknown(intent, outcome)
            return False
""",
        """            await self._answers.give_back(intent, "again", "no answer")
            return True
""",
        ("tests/engine/test_faults.py", "tests/faults/test_network.py"),
    ),
    Mutant(
        "an exception's class is believed",
        "mynth_dagster/client/http.py",
        "            message = _in_words(error)\n",
        """            message = _in_words(error)
            if "Connect" in type(error).__name__:
                handover.happened = False
""",
        ("tests/client/test_proof.py",),
    ),
    Mutant(
        "another key's list clears a row",
        LOST_RESPONSES,
        "    if unresolved.account != account:\n",
        "    if unresolved.account is None:\n",
        ("tests/engine/test_lost_responses.py",),
    ),
    Mutant(
        "a stale list is proof enough",
        LOST_RESPONSES,
        "any(task.claimed_seq > unresolved.unresolved_seq for _, task in trail.known)",
        "(trail.known or unresolved.unresolved_seq >= 0)",
        ("tests/engine/test_lost_responses.py",),
    ),
    Mutant(
        "a list with holes is proof enough",
        LOST_RESPONSES,
        "        missing = [task_id for task_id in wanted if task_id not in self._seen]\n",
        "        missing = [task_id for task_id in wanted if task_id == account]\n",
        ("tests/engine/test_hostile_list.py",),
    ),
    Mutant(
        "one walk over the list is proof enough",
        LOST_RESPONSES,
        "    return first.page_size != second.page_size and pause_us >=",
        "    return pause_us * 0 + ABSENT_AGAIN_AFTER_S * US_PER_S >=",
        ("tests/engine/test_lost_responses.py",),
    ),
    Mutant(
        "a wall clock is believed while rows are in doubt",
        "mynth_dagster/clock.py",
        "            return max(since_boot_us, 0)\n",
        "            return by_wall\n",
        ("tests/engine/test_lost_responses.py",),
    ),
    Mutant(
        "a late answer is rejected",
        "mynth_dagster/ledger/observations.py",
        "        is_before(Event.SIGHT),\n",
        "        _intents.c.state == IntentState.SENDING.value,\n",
        ("tests/ledger/test_evidence.py", "tests/engine/test_faults.py"),
    ),
    Mutant(
        "a claim is known by its run alone",
        SUBMIT,
        """        claimant = f"{self._name}.{next(self._numbers)}"\n""",
        "        claimant = self._name\n",
        ("tests/engine/test_replan.py",),
    ),
    Mutant(
        "who wakes up does not ask whether its claim still stands",
        SUBMIT,
        "        return claimant in mine.standing\n",
        "        return True\n",
        ("tests/engine/test_submit.py",),
    ),
    Mutant(
        "the shard is part of a row's identity",
        SUBMIT,
        "        row = RowKey(self._work.ledger_name, self._window, delivery.request_key)\n",
        """        key = f"{delivery.fan_out}/{delivery.request_key}"
        row = RowKey(self._work.ledger_name, self._window, key)
""",
        ("tests/engine/test_runs.py",),
    ),
    Mutant(
        "request hashes tell no version",
        "mynth_dagster/models/request.py",
        '    return f"{version}:{digest[:32]}"\n',
        "    return digest[:32]\n",
        ("tests/models/test_identity.py",),
    ),
    Mutant(
        "nobody counts the rows of a compare-and-set",
        "mynth_dagster/ledger/database.py",
        "    return [execute_many(connection, statement, [row]) == 1 for row in rows]\n",
        "    return [execute_many(connection, statement, [row]) >= 0 for row in rows]\n",
        ("tests/ledger/test_claims.py",),
    ),
    Mutant(
        "the budget is checked before the transaction",
        "mynth_dagster/ledger/ledger.py",
        "        return await self._commits.submit(CLAIM, claim)\n",
        """        from dataclasses import replace
        from mynth_dagster.models.money import Budget
        row = claim.intent.row
        used = {p.fan_out: p.exposure for p in self.read.partitions(row.batch)}
        spent = sum((e.total for e in used.values()), claim.intent.quoted_units or 0)
        cap = claim.budget.batch_units
        if cap is not None and spent > cap:
            return Claimed.OVER_BATCH
        return await self._commits.submit(CLAIM, replace(claim, budget=Budget()))
""",
        ("tests/ledger/test_exposure.py",),
    ),
    Mutant(
        "an answer is forgotten while the ledger is away",
        "mynth_dagster/ledger/group_commit.py",
        "            self._keep_answers(group)\n",
        "",
        ("tests/ledger/test_outage.py",),
    ),
    Mutant(
        "a claim whose COMMIT was not confirmed is somebody else's",
        "mynth_dagster/ledger/claims.py",
        "    is_won |= _confirmed_before(connection, [c for c in claims if id(c) not in is_won])\n",
        "",
        ("tests/ledger/test_outage.py",),
    ),
    Mutant(
        "a process that slept past its time sends all the same",
        SUBMIT,
        "            return is_in_time and not self._stop.is_cancelled\n",
        "            return bool(is_in_time) or not self._stop.is_cancelled\n",
        ("tests/engine/test_submit.py",),
    ),
    Mutant(
        "a claim does not look at stops",
        "mynth_dagster/ledger/claims.py",
        "    if any(stop.covers(row.batch, row.window, fan_out) for stop in barriers.stops):\n",
        "    if any(stop.covers(row.batch, row.window, fan_out) for stop in barriers.stops[9:]):\n",
        ("tests/ledger/test_stops.py",),
    ),
    Mutant(
        "a run that is over claims on",
        "mynth_dagster/ledger/claims.py",
        "    if claim.run in barriers.fenced_runs:\n",
        "    if claim.intent in barriers.fenced_runs:\n",
        ("tests/ledger/test_stops.py",),
    ),
    Mutant(
        "a task without its row's tag is shown",
        "mynth_dagster/engine/poll.py",
        "        if not tag.is_of(intent.intent_id, intent.request_hash):\n",
        "        if tag.intent_id == '':\n",
        ("tests/engine/test_hostile_reads.py",),
    ),
    Mutant(
        "an older copy of the ledger may spend",
        "mynth_dagster/engine/recover.py",
        "    if mark.number > number:\n",
        "    if mark.number < 0:\n",
        ("tests/engine/test_ledger_mismatch.py",),
    ),
    Mutant(
        "any key may go on with any ledger",
        "mynth_dagster/engine/session.py",
        "        if known and not await self._is_same(found, known):\n",
        "        if not known and await self._is_same(found, known) is None:\n",
        ("tests/engine/test_account.py",),
    ),
    Mutant(
        "a webhook is acknowledged before it is kept",
        "mynth_dagster/webhook/app.py",
        "            is_new = await self.keep(event)\n",
        "            is_new = bool(asyncio.ensure_future(self.keep(event)))\n",
        ("tests/webhook/test_ledger_down.py", "tests/webhook/test_crash.py"),
    ),
    Mutant(
        "an unsigned webhook is evidence",
        "mynth_dagster/engine/events.py",
        "            if item.event.is_signed:\n",
        "            if letter.event:\n",
        ("tests/engine/test_events.py",),
    ),
    Mutant(
        "an old signature counts",
        "mynth_dagster/wire/signatures.py",
        "    if abs(now_us - at_s * US_PER_S) > TOLERANCE_S * US_PER_S:\n",
        "    if abs(now_us - at_s * US_PER_S) < 0:\n",
        ("tests/webhook/test_verify.py",),
    ),
    Mutant(
        "whatever signature is there counts beside another form's",
        WEBHOOK,
        "    if _values(headers, OLDER_SIGNATURE):\n",
        "    if not headers:\n",
        ("tests/webhook/test_standard_webhooks.py",),
    ),
    Mutant(
        "an event's id is whatever the header says",
        WEBHOOK,
        "    is_other = stamp is not None and stamp.event_id != head.event_id\n",
        "    is_other = False\n",
        ("tests/webhook/test_standard_webhooks.py",),
    ),
    Mutant(
        "a secret that is no key is an empty one",
        "mynth_dagster/wire/signatures.py",
        "    except ValueError:\n        return None\n",
        '    except ValueError:\n        return b""\n',
        ("tests/wire/test_signatures.py",),
    ),
    Mutant(
        "a name's address is not looked at",
        PICTURES,
        "        if not allowed:\n",
        "        allowed = allowed or found\n        if not allowed:\n",
        ("tests/client/test_picture_http.py",),
    ),
    Mutant(
        "the address that is connected to is not looked at",
        PICTURES,
        "    if not is_allowed(str(address[0]), scope):\n",
        "    if not str(address[0]):\n",
        ("tests/client/test_picture_http.py",),
    ),
    Mutant(
        "a redirect is followed wherever it leads",
        PICTURES,
        "            scope = scope_of(url, self._settings)\n",
        "            scope = scope_of(url, self._settings) or Scope.ORIGIN\n",
        ("tests/client/test_picture_http.py",),
    ),
    Mutant(
        "a file is believed to be whole",
        "mynth_dagster/tables/image_header.py",
        "    if not _has_end(file, header.format, head, n_bytes):\n",
        "    if not head:\n",
        ("tests/tables/test_image_header.py",),
    ),
    Mutant(
        "a file without a word in the ledger is fetched again",
        "mynth_dagster/engine/download.py",
        "        if path is None:\n            return None\n",
        "        return None\n",
        ("tests/engine/test_download.py",),
    ),
    Mutant(
        "a kept file is recorded anew",
        "mynth_dagster/ledger/files.py",
        "            _downloads.c.state != DownloadState.KEPT.value,\n",
        "",
        ("tests/ledger/test_downloads.py",),
    ),
    Mutant(
        "an empty balance is taken for what passes by itself",
        "mynth_dagster/engine/auto_resubmit.py",
        '    "unreachable": Reason.OUTAGE,\n',
        '    "unreachable": Reason.OUTAGE,\n    "insufficient_balance": Reason.OUTAGE,\n',
        ("tests/engine/test_auto_resubmit.py",),
    ),
    Mutant(
        "a run that the sensor asks for reads the prompts anew",
        "mynth_dagster/plugin/sensors.py",
        ", asset_selection=selection)",
        ")",
        ("tests/plugin/test_auto_resubmit.py",),
    ),
    Mutant(
        "a refusal of the whole body is the row's fault",
        "mynth_dagster/client/outcome.py",
        "    return bool(paths) and not any(paths)\n",
        "    return False\n",
        ("tests/client/test_outcome.py",),
    ),
    Mutant(
        "a key that may not create tasks is found out by the first row",
        "mynth_dagster/engine/session.py",
        "    if account is not None and not account.may(GENERATE):\n",
        "    if account is not None and account.scopes == frozenset():\n",
        ("tests/engine/test_account.py",),
    ),
    Mutant(
        "a revision is taken for certain although something keeps the routes back",
        "mynth_dagster/client/client.py",
        "    return RevisionVerdict(OLDEST, message, is_certain=estimate_status in (404, 405))\n",
        "    return RevisionVerdict(OLDEST, said)\n",
        ("tests/engine/test_runs.py",),
    ),
    Mutant(
        "a row that only today's revision refuses is sent again",
        "mynth_dagster/tables/requests.py",
        """rows.filter(pc.is_null(rows.column("problem_code")))""",
        """rows.filter(pc.is_valid(rows.column("request_hash")))""",
        ("tests/tables/test_result_rows.py",),
    ),
)
