"""The OpenAPI document: short names of operations, and the refusals of each, of one shape.

What generators of typed clients make of it is tried by `scripts/typed_clients`.
"""

from itertools import groupby
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, JsonValue

from errors import DarkroomError
from web.problems import OTHER_REFUSAL, PROBLEM_MEDIA_TYPE

SCHEMAS = "#/components/schemas/"


def find_raised(branch: type[DarkroomError] = DarkroomError) -> list[type[DarkroomError]]:
    """All errors that are raised, of this branch of the tree: what may be an answer's `code`."""
    found = [branch] if "title" in vars(branch) else []
    for error in branch.__subclasses__():
        found += find_raised(error)
    return found


CODES: list[JsonValue] = [*dict.fromkeys(error.code for error in find_raised()), OTHER_REFUSAL]

Responses = dict[int | str, dict[str, Any]]


class InvalidField(BaseModel):
    """One thing that was not valid in the input. `msg` is for people, `type` for programs."""

    loc: list[str | int] = Field(description="Where: body, path or query, then the field's name")
    msg: str
    type: str


class Problem(BaseModel):
    """The body of every error: RFC 9457, with a stable `code` for programs."""

    type: str = Field(description="urn:darkroom:error: and the code")
    title: str
    status: int
    detail: str = Field(description="A sentence for a person; it may change")
    code: str = Field(json_schema_extra={"enum": CODES}, description="For programs; it stays")
    request_id: str = Field(description="As in the header X-Request-ID, and in the log")
    errors: list[InvalidField] = Field(
        default_factory=list, description="With the code invalid_request only: what was not valid"
    )


def refuse_with(*errors: type[DarkroomError]) -> Responses:
    """A route's `responses`: which status each of these errors has, and which codes."""
    responses: Responses = {}
    by_status = sorted(set(errors), key=lambda error: (error.status, error.code))
    for status, alike in groupby(by_status, key=lambda error: error.status):
        codes = ", ".join(f"`{error.code}`" for error in alike)
        responses[status] = _describe_problem(codes)
    return responses


def refuse_with_any() -> Responses:
    """The `responses` of the whole application: any other refusal has the same body."""
    return {"default": _describe_problem("Any other refusal")}


def name_operation(route: APIRoute) -> str:
    """The function's name as a client writes it: replace_picture is replacePicture."""
    first, *others = route.name.split("_")
    return first + "".join(word.title() for word in others)


def complete_document(app: FastAPI, token_url: str) -> None:
    """Let the document of this application have the parts that FastAPI does not know of.

    They are the body of every error, and the address of the login as this application has it.
    """
    describe = app.openapi

    def describe_completely() -> dict[str, Any]:
        document = describe()
        components = document["components"]
        problem = Problem.model_json_schema(ref_template=SCHEMAS + "{model}")
        components["schemas"] |= {**problem.pop("$defs"), "Problem": problem}
        for scheme in components["securitySchemes"].values():
            scheme["flows"]["password"]["tokenUrl"] = token_url
        return document

    app.openapi = describe_completely  # type: ignore[method-assign]


def _describe_problem(description: str) -> dict[str, Any]:
    schema = {"$ref": f"{SCHEMAS}Problem"}
    return {"description": description, "content": {PROBLEM_MEDIA_TYPE: {"schema": schema}}}
