"""The product with one of its mechanisms taken out, each of which the crash run must notice."""

from tests.crash.edits import CHANGE, DELETIONS, PICTURES, Edit, Mutant
from tests.crash.environment_mutants import ENVIRONMENT_MUTANTS
from tests.crash.photo_mutants import PHOTO_MUTANTS
from tests.crash.thumbnail_mutants import THUMBNAIL_MUTANTS
from tests.crash.trials import SERVER_KILLS

DATABASE = "connections/driver.py"
PUTS = "files/puts.py"
RESERVATIONS = "files/reservations.py"
STATEMENTS = "files/statements.py"


MUTANTS = (
    *PHOTO_MUTANTS,
    *THUMBNAIL_MUTANTS,
    *ENVIRONMENT_MUTANTS,
    Mutant(
        name="account_told_though_lost",
        breaks="A deletion of an account whose COMMIT was lost is answered as done (G3).",
        causes=("wrong",),
        found_by=("COMMITs without an answer, accounts",),
        edits=(Edit(PICTURES, "return user is None\n", "return True\n"),),
    ),
    Mutant(
        name="announced_beside_the_put",
        breaks="The bytes are stored while the row is being announced (G2).",
        causes=("leaked",),
        found_by=("kill before the announcement arrives",),
        edits=(
            Edit(
                PUTS,
                "        await file.store.put(file.key, content, content_type, sha256)\n",
                "        await putting\n",
            ),
            Edit(
                PUTS,
                "file = await reserve(backends, owner_id, kind, next(filenames), facts)",
                """\
filename = next(filenames)
        store = backends.stores.current
        putting = asyncio.ensure_future(
            store.put(kind.prefix + filename, content, content_type, sha256)
        )
        file = await reserve(backends, owner_id, kind, filename, facts)""",
            ),
        ),
    ),
    Mutant(
        name="delete_before_commit",
        breaks="The old object is deleted before the commit that lets go of it (G6).",
        causes=("lost",),
        found_by=("kill at inside_swap", "COMMITs without an answer, one client"),
        edits=(
            Edit(
                CHANGE,
                "faults.reached(fault_point)",
                """\
for row in detached:
                    await deletions.Claimed(row, self._backends.stores).delete_object()
                faults.reached(fault_point)""",
            ),
        ),
    ),
    Mutant(
        name="delete_on_commit_error",
        breaks="A commit without an answer is taken for one that failed, and the new object is "
        "deleted (G3).",
        causes=("lost",),
        found_by=("COMMITs without an answer, one client",),
        edits=(
            Edit(
                CHANGE,
                "await self._settle(has_happened)",
                """\
for file in self._new:
                await file.store.delete(file.key)
            raise""",
            ),
        ),
    ),
    Mutant(
        name="expired_goes_live",
        breaks="The swap does not look whether the reaper has claimed the file (G1).",
        causes=("lost",),
        found_by=("SIGSTOP past the expiry at after_put", "reaper before the swap attaches"),
        edits=(
            Edit(
                STATEMENTS,
                """\
, StoredFile.state == FileState.PENDING)
    .values(state=FileState.LIVE""",
                """\
)
    .values(state=FileState.LIVE""",
            ),
        ),
    ),
    Mutant(
        name="expired_told_as_done",
        breaks="A lost commit of a file that has expired since is answered as done (G3).",
        # Whoever had a picture before loses it as well: it is deleted as if it had been replaced.
        causes=("wrong", "lost"),
        found_by=("COMMIT of the swap lost, SIGSTOP past the expiry",),
        edits=(Edit(CHANGE, ' or file["tombstone_until"]', ""),),
    ),
    Mutant(
        name="forgotten_expiry",
        breaks="The reaper passes over what was announced and never finished (G2).",
        causes=("leaked",),
        found_by=("kill at after_announce",),
        edits=(
            Edit(
                STATEMENTS,
                "_is_due = IS_LET_GO &",
                "_is_due = StoredFile.state.in_([FileState.DOOMED, FileState.DELETING]) &",
            ),
        ),
    ),
    Mutant(
        name="long_lease",
        breaks="What was let go of belongs for hours to a process that may be dead (G6).",
        causes=("leaked",),
        found_by=("kill at after_commit",),
        edits=(Edit(STATEMENTS, "LEASE = timedelta(seconds=30)", "LEASE = timedelta(hours=2)"),),
    ),
    Mutant(
        name="looks_then_attaches",
        breaks="The swap reads the new file without its lock, and attaches whatever it is by then"
        " (G1).",
        causes=("lost",),
        found_by=("reaper before the swap attaches",),
        edits=(
            Edit(
                STATEMENTS,
                """\
, StoredFile.state == FileState.PENDING)
    .values(state=FileState.LIVE""",
                """\
)
    .values(state=FileState.LIVE""",
            ),
            Edit(
                CHANGE,
                "if len(await transaction.fetch(statements.ATTACH, ids=ids)) < len(ids):",
                """\
row = await transaction.fetch_row(statements.READ_FILE, file_id=ids[0])
        if row and row["state"] == FileState.PENDING:
            await transaction.fetch(statements.ATTACH, ids=ids)
        else:""",
            ),
        ),
    ),
    Mutant(
        name="no_lock",
        breaks="The old picture is read without the lock of the account (G4).",
        causes=("leaked",),
        found_by=("COMMITs without an answer, many clients", "kill at release_claimed"),
        edits=(
            Edit(
                STATEMENTS,
                'User.id == bindparam("owner_id")).with_for_update()',
                'User.id == bindparam("owner_id"))',
            ),
        ),
    ),
    Mutant(
        name="no_pending_row",
        breaks="The bytes are stored before any row knows of them (G2).",
        causes=("leaked",),
        found_by=("kill at before_announce", "kill at during_put"),
        edits=(
            Edit(
                PUTS,
                "        await file.store.put(file.key, content, content_type, sha256)\n",
                "",
            ),
            Edit(
                PUTS,
                "file = await reserve(backends, owner_id, kind, next(filenames), facts)",
                """\
filename = next(filenames)
        store = backends.stores.current
        await store.put(kind.prefix + filename, content, content_type, sha256)
        file = await reserve(backends, owner_id, kind, filename, facts)""",
            ),
        ),
    ),
    Mutant(
        name="no_tombstone",
        breaks="An expired row is forgotten at once, though its bytes may still come (G2).",
        causes=("leaked",),
        found_by=("SIGSTOP past the expiry, kill at after_put",),
        edits=(
            Edit(
                STATEMENTS,
                "(StoredFile.state == FileState.PENDING, func.now() + TOMBSTONE)",
                '(StoredFile.state == FileState.PENDING, literal_column("NULL::timestamptz"))',
            ),
        ),
    ),
    Mutant(
        name="not_durable",
        breaks="A database that is tuned for speed is taken at its word (G17).",
        causes=("wrong",),
        found_by=tuple(SERVER_KILLS),
        edits=(
            Edit(
                DATABASE,
                """\
    "CASE current_setting('synchronous_commit')"
    " WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END\"""",
                '    "1"',
            ),
        ),
    ),
    Mutant(
        name="removal_told_though_lost",
        breaks="A removal of a picture whose COMMIT was lost is answered as done (G3).",
        causes=("wrong",),
        found_by=("COMMITs without an answer, removals",),
        edits=(
            Edit(
                PICTURES,
                'return user is None or user["picture_id"] not in removed',
                "return True",
            ),
        ),
    ),
    Mutant(
        name="reused_key",
        breaks="The key is made from the account, and so used again (G8).",
        causes=("wrong",),
        found_by=("COMMITs without an answer, one client",),
        edits=(
            Edit(
                RESERVATIONS,
                "key = kind.prefix + filename",
                'key = f"{kind.prefix}{owner_id}.jpg"',
            ),
        ),
    ),
    Mutant(
        name="row_goes_first",
        breaks="The row of a deletion goes before its object (G6).",
        causes=("leaked",),
        found_by=("kill at object_deleted",),
        edits=(
            Edit(DELETIONS, 'faults.reached("object_deleted")', "pass"),
            Edit(
                DELETIONS,
                "errors, is_store_away = await _delete_objects(claimed)",
                """\
await database.fetch(statements.FORGET, ids=[file.id for file in claimed])
    faults.reached("object_deleted")
    errors, is_store_away = await _delete_objects(claimed)""",
            ),
        ),
    ),
    Mutant(
        name="swap_before_put",
        breaks="The row is made live first and the bytes are stored after the commit (G1).",
        causes=("lost",),
        found_by=("kill with the COMMIT of the swap sent",),
        edits=(
            Edit(
                PUTS,
                "        await file.store.put(file.key, content, content_type, sha256)\n",
                "",
            ),
            Edit(
                CHANGE,
                'faults.reached("after_put")',
                'self._picture = picture\n        faults.reached("after_put")',
            ),
            Edit(
                CHANGE,
                'faults.reached("after_commit")',
                """\
for file in self._new:
            late = self._picture
            await file.store.put(file.key, late.content, late.content_type, late.sha256)
        faults.reached("after_commit")""",
            ),
        ),
    ),
    Mutant(
        name="told_though_lost",
        breaks="A commit without an answer is answered as done, whether it was or not (G3).",
        causes=("wrong",),
        found_by=("COMMITs without an answer, one client",),
        edits=(Edit(CHANGE, "await self._settle(has_happened)", "pass"),),
    ),
)
