"""What is not possible right now, save for what a store refuses: trying again may help."""

from errors.base import Unavailable


class Busy(Unavailable):
    code = "busy"
    title = "Busy"
    sentence = "Many pictures are being worked on right now. Please try again in a moment."


class ShuttingDown(Unavailable):
    code = "shutting_down"
    title = "Restarting"
    sentence = "The service is being restarted. Please try again in a moment."


class DecoderUnavailable(Unavailable):
    code = "decoder_unavailable"
    title = "Decoder unavailable"
    sentence = "Pictures cannot be decoded right now. Please try again in a moment."


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
    title = "Database unavailable"


class OutcomeUnknown(Unavailable):
    code = "outcome_unknown"
    title = "Outcome unknown"
    sentence = "The change may or may not have been made. Sending it again is safe."


class UploadExpired(Unavailable):
    code = "upload_expired"
    title = "Upload took too long"
    sentence = "The upload took too long to finish and was undone. Please send it again."


class Overloaded(Unavailable):
    """The system gives us no further thread."""

    code = "overloaded"
    title = "Overloaded"
    sentence = "The service has too much to do at once right now. Please try again in a moment."
