"""The form of an upload, and the file in it, before anyone looks at what is in the file."""

from errors.base import DarkroomError, TooLarge


class FileTooLarge(TooLarge):
    code = "file_too_large"
    title = "File too large"
    sentence = "The file is too large. Please send a smaller one."


class BadForm(DarkroomError):
    status = 422
    code = "bad_form"


class NotAForm(BadForm):
    code = "not_a_form"
    title = "Not a form"
    sentence = (
        "Please send the picture as multipart/form-data, in a field named file;"
        " or bare, with its own Content-Type, as in image/jpeg."
    )


class MalformedForm(BadForm):
    code = "malformed_form"
    title = "Malformed form"
    sentence = "The form is damaged or cut short. Please send it again."


class FileMissing(BadForm):
    code = "file_missing"
    title = "No file"
    sentence = "The form has no file. Please send the picture in a field named file."


class FileIsAField(BadForm):
    code = "file_is_a_field"
    title = "A field instead of a file"
    sentence = "The field named file holds text. Please send a file there, with a filename."


class TooManyFiles(BadForm):
    code = "too_many_files"
    title = "More than one file"
    sentence = "Please send one file only, in the field named file."
