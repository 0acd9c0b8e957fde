"""The commands `bucket print` and `bucket apply` of cli.py, which need no database."""

import argparse
import io
import sys
from collections.abc import Callable
from itertools import chain
from typing import Any

from buckets import applying, applying_users, printing
from buckets.plan import find_store, plan_bucket
from config import Settings
from errors import StartupError

HELP = "Print what the bucket of the settings must be, or apply it."
REPLACING = (
    "Each of these commands replaces what the bucket has of the same sort. `cli.py bucket apply`"
    " keeps what others have put there, and with --dry-run tells what it would do."
)


def print_bucket(settings: Settings, form: str, only: str | None) -> int:
    """Print what the bucket of the settings must be, to be pasted; nobody is asked."""
    plan = plan_bucket(settings)
    if only is not None and form != "json":
        raise ValueError("--only names one of the documents, which are printed as JSON.")
    if form == "aws-cli":
        print(REPLACING, file=sys.stderr)
        print(printing.render_commands(plan))
    elif form == "cloudformation":
        print(printing.render_template(plan))
    else:
        print(printing.render_documents(plan, only))
    return 0


def apply_bucket(
    settings: Settings, profile: str | None, is_dry: bool, with_users: bool = False
) -> int:
    """Make the bucket of the settings what it must be, and say what was changed.

    What others have put there stays. Exit 1 if some of it was not possible.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without these marks shows a question mark.
        sys.stdout.reconfigure(errors="replace")
    plan = plan_bucket(settings)
    client = applying.open_client(find_store(settings), profile)
    all_applied = applying.apply_plan(plan, client, is_dry=is_dry)
    if with_users:
        account = applying_users.Account(plan, profile)
        all_applied = chain(all_applied, applying_users.apply_users(plan, account, is_dry=is_dry))
    is_well = True
    for applied in all_applied:
        print(applied, flush=True)
        if applied.outcome is applying.Outcome.FAILED:
            is_well = False
    return 0 if is_well else 1


def add_to(parser: argparse.ArgumentParser) -> None:
    """Let the parser of `bucket` know both commands; `run` takes what it parses."""
    subparsers = parser.add_subparsers(required=True)

    def add(name: str, command: Callable[..., int]) -> argparse.ArgumentParser:
        told = command.__doc__
        added = subparsers.add_parser(name, help=told, description=told)
        added.set_defaults(command=command)
        return added

    prints = add("print", print_bucket)
    prints.add_argument(
        "--as",
        dest="form",
        choices=("json", "aws-cli", "cloudformation"),
        default="json",
        help="JSON as consoles take it, commands of the AWS CLI, or one template (%(default)s)",
    )
    prints.add_argument("--only", metavar="DOCUMENT", help="one document of the JSON, by its name")
    applies = add("apply", apply_bucket)
    applies.add_argument(
        "--profile", help="of ~/.aws, whose keys may do more than those of the settings"
    )
    applies.add_argument(
        "--users",
        dest="with_users",
        action="store_true",
        help="also make the policies of IAM, and a user with the one of the service (AWS)",
    )
    applies.add_argument(
        "--dry-run", dest="is_dry", action="store_true", help="say what it would do, do nothing"
    )


def run(settings: Settings, command: Callable[..., int], **options: Any) -> int:
    """Run one of them, with what was parsed; return its exit status."""
    try:
        return command(settings, **options)
    except (StartupError, ValueError) as err:
        print(err, file=sys.stderr)
        return 1
