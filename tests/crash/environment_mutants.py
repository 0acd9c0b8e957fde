"""The product without one of the mechanisms that keep it from believing another store."""

from tests.crash.edits import Edit, Mutant

ENVIRONMENT_MUTANTS = (
    Mutant(
        name="no_marker_needed",
        breaks="A store without its marker is taken for the right one (G18).",
        causes=("wrong",),
        found_by=("store's marker missing, then kill",),
        edits=(
            Edit(
                "files/identity.py",
                'return replace(look, wrong="there is no marker of a store")',
                "return replace(look, is_reaper=True)",
            ),
        ),
    ),
    Mutant(
        name="any_folder_will_do",
        breaks="A running service stores into whatever stands where its folder was (G18).",
        causes=("lost",),
        found_by=("another place for the store, and kill",),
        edits=(
            Edit(
                "storage/local_marker.py",
                "if self._expected_id is None:\n            return\n        if root",
                "if root is not None:\n            return\n        if root",
            ),
        ),
    ),
)
