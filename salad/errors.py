"""The one exception that means: the input is at fault, not the program."""


class InputError(ValueError):
    """Bad input from the user: one line that says what, where, and the way out.

    The command line prints it without a traceback and exits with status 2.
    """


class DivergedError(RuntimeError):
    """A loss was not finite: training cannot go on."""
