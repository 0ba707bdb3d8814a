"""The exception for errors that the user can correct, and the exit code of work that fails in part."""


class UserError(Exception):
    """An error that the user can correct: bad input, a missing file, options that contradict each other.

    The message is one line (or a line and a short list): what is wrong, where, which value, and how to correct it.
    The command line prints it without a traceback and exits with code 2.
    """


def exit_code_of(failed: int, succeeded: int) -> int:
    """The exit code of work on many videos. 0: no failures. 1: some videos failed. 2: all videos failed."""
    if not failed:
        return 0
    return 1 if succeeded else 2


__all__ = ["UserError", "exit_code_of"]
