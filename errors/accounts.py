"""Who asks, what they may do, and what an account lacks or may not have."""

from errors.base import Conflict, DarkroomError, Forbidden, NotFound


class NotAuthenticated(DarkroomError):
    status = 401
    code = "not_authenticated"
    title = "Not logged in"
    sentence = "Please log in: send the token as Authorization: Bearer TOKEN."

    def __init__(self, sentence: str | None = None) -> None:
        super().__init__(sentence, {"WWW-Authenticate": "Bearer"})


class InvalidToken(NotAuthenticated):
    code = "invalid_token"
    title = "Invalid token"
    sentence = "The token is not valid. Please log in again."


class TokenExpired(NotAuthenticated):
    code = "token_expired"
    title = "Token expired"
    sentence = "The session has expired. Please log in again."


class WrongCredentials(NotAuthenticated):
    code = "wrong_credentials"
    title = "Wrong login"
    sentence = "The name, the e-mail address or the password is wrong."


class NotYours(Forbidden):
    code = "not_yours"
    title = "Another's account"
    sentence = "This account belongs to someone else."


class WrongPassword(Forbidden):
    code = "wrong_password"
    title = "Wrong current password"
    sentence = (
        "To change the password or the e-mail address, send the current password as"
        " current_password; the one sent is missing or wrong."
    )


class LoginAgain(Forbidden):
    code = "login_again"
    title = "Login too long ago"
    sentence = (
        "To delete the account, please log in once more; after that you have 15 minutes for it."
    )


class TooManyAttempts(DarkroomError):
    status = 429
    code = "too_many_attempts"
    title = "Too many attempts"
    sentence = "This was tried too often. Please wait for a while."
    template = "This was tried too often. Please try again in {seconds} seconds."


class UserNotFound(NotFound):
    code = "user_not_found"
    title = "No such account"
    sentence = "There is no account with this id."


class NoPicture(NotFound):
    code = "no_picture"
    title = "No picture"
    sentence = "This account has no picture."


class UsernameTaken(Conflict):
    code = "username_taken"
    title = "Name taken"
    sentence = "This name is taken. Please choose another."


class EmailTaken(Conflict):
    code = "email_taken"
    title = "E-mail taken"
    sentence = "There is an account with this e-mail address. Please log in."
