"""The product with one of the mechanisms that thumbnails and jobs rest on taken out."""

from tests.crash.edits import Edit, Mutant

GALLERY = "photos/gallery.py"
STATEMENTS = "photos/thumbnail_statements.py"
THUMBNAILS = "photos/thumbnails.py"
WORKER = "jobs/worker.py"

THUMBNAIL_MUTANTS = (
    Mutant(
        name="claim_of_the_dead",
        breaks="What a process has claimed that died is made by nobody (G14).",
        causes=("lost", "wrong"),
        found_by=("kill at thumbnail_claimed",),
        edits=(
            Edit(
                STATEMENTS,
                "or_(Thumbnail.claimed_until.is_(None), Thumbnail.claimed_until < func.now())",
                "Thumbnail.claimed_until.is_(None)",
            ),
        ),
    ),
    Mutant(
        name="hidden_thumbnail_is_public",
        breaks="A thumbnail of a private photo is stored where everyone may read (G14).",
        causes=("wrong",),
        found_by=("kill at thumbnail_published",),
        edits=(
            Edit(THUMBNAILS, "find_kind(photo.visibility)", 'find_kind("public")'),  # a StrEnum
        ),
    ),
    Mutant(
        name="job_after_the_commit",
        breaks="The job of a new photo is written behind the commit that shows it (G14).",
        causes=("lost",),
        found_by=("kill with the COMMIT of a thumbnail's job sent",),
        edits=(
            Edit(
                GALLERY,
                '            await _render_later(transaction, inserted[0]["id"])\n',
                "",
            ),
            Edit(
                GALLERY,
                'await change.commit(insert, "inside_photo_swap")',
                """\
await change.commit(insert, "inside_photo_swap")
        async with backends.database.transaction() as transaction:
            await _render_later(transaction, inserted[0]["id"])
            await transaction.commit()""",
            ),
        ),
    ),
    Mutant(
        name="job_of_the_dead",
        breaks="A job whose worker died is taken up by nobody (G14).",
        causes=("lost",),
        found_by=("kill at job_taken, of thumbnails",),
        edits=(
            Edit(
                WORKER,
                "heartbeat_timeout=timedelta(seconds=STALLED_AFTER_SECONDS)",
                "heartbeat_timeout=timedelta(days=3)",
            ),
        ),
    ),
    Mutant(
        name="thumbnail_of_what_was",
        breaks="A thumbnail is published though its photo has another master since (G14).",
        causes=("wrong", "leaked"),
        found_by=("SIGSTOP at thumbnail_put while photos change",),
        edits=(
            Edit(
                STATEMENTS,
                "delete(Thumbnail)\n    .where(",
                "delete(Thumbnail)\n    .where(Thumbnail.file_id.is_not(None), ",
            ),
            Edit(THUMBNAILS, 'if found["master_id"] != photo.master_id:', "if found is None:"),
        ),
    ),
    Mutant(
        name="thumbnail_published_first",
        breaks="A thumbnail is shown first, and stored after the commit (G14).",
        causes=("lost",),
        found_by=("kill with the COMMIT of a thumbnail sent",),
        edits=(
            Edit(
                THUMBNAILS,
                "files = [await change.store(kind, picture) for picture in pictures]",
                """\
from files.reservations import list_facts, reserve

            files = [
                await reserve(
                    self._backends, photo.owner_id, kind, picture.filename, list_facts(picture)
                )
                for picture in pictures
            ]
            for file in files:
                change.add(file)""",
            ),
            Edit(
                THUMBNAILS,
                'await change.commit(publish, "thumbnail_published")',
                """\
await change.commit(publish, "thumbnail_published")
            for file, late in zip(files, pictures, strict=True):
                await file.store.put(file.key, late.content, late.content_type, late.sha256)""",
            ),
        ),
    ),
    Mutant(
        name="thumbnails_stay",
        breaks="The thumbnails of what a photo shows no more are not let go of (G6).",
        causes=("leaked", "wrong"),
        found_by=("kill at thumbnail_published",),
        edits=(
            Edit(
                GALLERY,
                "rows = await transaction.fetch(thumbnail_statements.DROP, photo_id=photo_id)",
                "rows: list[Row] = []",
            ),
        ),
    ),
)
