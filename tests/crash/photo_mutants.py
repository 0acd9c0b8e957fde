"""The product with one of the mechanisms that photos rest on taken out."""

from tests.crash.edits import CHANGE, DELETIONS, PICTURES, Edit, Mutant

GALLERY = "photos/gallery.py"
STREAMS = "files/streams.py"
SINGLES = "photos/single_thumbnails.py"

PHOTO_MUTANTS = (
    Mutant(
        name="account_without_its_photos",
        breaks="A deletion of an account lets go of its picture only (G6).",
        causes=("leaked",),
        found_by=("kill with the COMMIT of the account deletion sent",),
        edits=(
            Edit(PICTURES, 'return [file["id"] for file in owned]', "return _list_picture(user)"),
        ),
    ),
    Mutant(
        name="hidden_stays_public",
        breaks="A master that moves to a private key stays under its public one (G6).",
        causes=("wrong", "leaked"),
        found_by=("kill at visibility_moved",),
        edits=(
            Edit(
                GALLERY,
                "return [photo.master_id, *dropped_ids, *waiting_ids]",
                "return dropped_ids",
            ),
        ),
    ),
    Mutant(
        name="master_after_commit",
        breaks="The photo is shown first, and its master stored after the commit (G1).",
        causes=("lost",),
        found_by=("kill with the COMMIT of a photo sent",),
        edits=(
            Edit(
                GALLERY,
                "    master = await change.store(find_kind(visibility), picture)\n",
                """\
    from files.reservations import list_facts, reserve

    kind = find_kind(visibility)
    facts = list_facts(picture)
    master = await reserve(backends, change._owner_id, kind, picture.filename, facts)
    change.add(master)
    change.late = (master, picture)
""",
            ),
            Edit(
                CHANGE,
                'faults.reached("after_commit")',
                """\
if late := getattr(self, "late", None):
            file, picture = late
            await file.store.put(file.key, picture.content, picture.content_type, picture.sha256)
        faults.reached("after_commit")""",
            ),
        ),
    ),
    Mutant(
        name="one_of_two_attached",
        breaks="A photo is shown once one of its files is live, though the other has expired (G1).",
        causes=("lost",),
        found_by=("reaper before the master is announced",),
        edits=(
            Edit(
                CHANGE,
                "if len(await transaction.fetch(statements.ATTACH, ids=ids)) < len(ids):",
                "if not await transaction.fetch(statements.ATTACH, ids=ids):",
            ),
        ),
    ),
    Mutant(
        name="photo_told_though_lost",
        breaks="A deletion of a photo whose COMMIT was lost is answered as done (G3).",
        causes=("wrong",),
        found_by=("COMMITs without an answer, photos",),
        edits=(
            Edit(
                GALLERY,
                "return await transaction.fetch_row(statements.READ_PHOTO, **ids) is None",
                "return True",
            ),
        ),
    ),
    Mutant(
        name="replaced_files_stay",
        breaks="The files of a photo that is replaced are not let go of (G6).",
        causes=("leaked",),
        found_by=("kill at inside_photo_swap",),
        edits=(
            Edit(
                GALLERY,
                "return let_go_ids + files.dispensable_ids",
                "return files.dispensable_ids",
            ),
        ),
    ),
    Mutant(
        name="single_told_though_lost",
        breaks="A deletion of a single thumbnail whose COMMIT was lost is answered as done (G3).",
        causes=("wrong",),
        found_by=("COMMITs without an answer, photos",),
        edits=(
            Edit(
                SINGLES,
                "return await transaction.fetch_row(READ, **ids) is None",
                "return True",
            ),
        ),
    ),
    Mutant(
        name="deleted_single_stays",
        breaks="The file of a single thumbnail that is deleted is not let go of (G6).",
        causes=("leaked",),
        found_by=("kill at inside_single_thumbnail_deletion",),
        edits=(Edit(SINGLES, 'return [deleted[0]["file_id"]]', "return []"),),
    ),
    Mutant(
        name="upload_forgotten",
        breaks="No row notes an upload in parts, and the reaper asks the store for none (G2).",
        causes=("leaked",),
        found_by=("kill at part_put",),
        # On disk an upload is a draft, which is removed by its age.
        store="s3",
        edits=(
            Edit(
                STREAMS,
                "file_id=file.id, upload_id=self._upload_id",
                "file_id=file.id, upload_id=None",
            ),
            Edit(
                DELETIONS,
                "upload_ids = await store.find_uploads(key) if may_have_begun else []",
                "upload_ids = [] if may_have_begun else []",
            ),
        ),
    ),
)
