"""The client of openapi-python-client, used; run with the URL of a service and a photo's path."""

import io
import sys
from pathlib import Path

from darkroom_client import AuthenticatedClient, Client
from darkroom_client.api.users import (
    delete_picture,
    delete_user,
    log_in,
    read_me,
    register,
    replace_picture,
)
from darkroom_client.models import (
    LoginForm,
    Problem,
    ProblemCode,
    ReplacePictureBody,
    Token,
    UserCreate,
    UserPrivate,
    UserWithNewPicture,
)
from darkroom_client.types import File


def main(url: str, photo: Path) -> None:
    """From an account to its end, with a picture sent in each way that the client knows."""
    plain = {"trust_env": False}
    with Client(base_url=url, httpx_args=plain) as client:
        new = UserCreate(username="py", email="py@example.com", password="correct horse")
        made = register.sync(client=client, body=new)
        assert isinstance(made, UserPrivate), made
        token = log_in.sync(client=client, body=LoginForm("py", "correct horse"))
        assert isinstance(token, Token), token
        assert token.user == made
    with AuthenticatedClient(base_url=url, token=token.access_token, httpx_args=plain) as client:
        send_pictures(client, made.id, photo.read_bytes())
        bare = delete_picture.sync("me", client=client)
        assert isinstance(bare, UserPrivate)
        assert bare.image_file is None
        assert delete_user.sync_detailed("me", client=client).status_code == 204


def send_pictures(client: AuthenticatedClient, user_id: int, content: bytes) -> None:
    """Send a picture under each description of a file that the client can send, and a text."""
    for file in (
        File(payload=io.BytesIO(content), file_name="photo.jpg", mime_type="image/jpeg"),
        File(payload=io.BytesIO(content), file_name="photo.jpg"),
        File(payload=io.BytesIO(content), mime_type="image/jpeg"),
    ):
        body = ReplacePictureBody(file=file, crop="0,0,200")
        user = replace_picture.sync("me", client=client, body=body)
        assert isinstance(user, UserWithNewPicture), user
        shown = read_me.sync(client=client)
        assert isinstance(shown, UserPrivate)
        assert user.image_file and shown.image_path == user.image_path
    text = ReplacePictureBody(file=File(payload=io.BytesIO(b"no picture"), file_name="photo.jpg"))
    refused = replace_picture.sync_detailed(user_id, client=client, body=text)
    assert refused.status_code == 400
    assert isinstance(refused.parsed, Problem)
    assert refused.parsed.code is ProblemCode.NOT_A_PICTURE


main(sys.argv[1], Path(sys.argv[2]))
