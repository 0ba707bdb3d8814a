"""The exception for errors that the user can correct."""


class UserError(Exception):
    """An error that the user can correct: bad input, a missing file, options that contradict each other.

    The message is one line (or a line and a short list): what is wrong, where, which value, and how to correct it.
    The command line prints it without a traceback and exits with code 2.
    """


__all__ = ["UserError"]
