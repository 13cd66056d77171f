"""The exceptions that scripts show as one message."""


class UserError(Exception):
    """Wrong input: shown as one message without a traceback, exit status 2.

    The message says what was found, what was expected and, where there is one,
    the command that makes the missing thing.
    """


class LostRank(Exception):
    """Another process of this launch has died; shown as one message, exit status 1."""
