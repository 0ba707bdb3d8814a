"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something that the user can mend: bad input, a missing file, options that do not fit together.

    The message is one clear line (or a line and a short list): what is wrong, where, which value, and how to mend it.
    The command line prints it without a traceback and exits with code 2; library users catch it like any exception.
    """
