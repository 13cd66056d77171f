"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """Wrong input: shown as one message without a traceback, exit status 2.

    The message says what was found, what was expected and, where there is one,
    the command that makes the missing thing.
    """
