"""The warning of derin.data, in a file of its own so that every file below can import it."""


class DataWarning(UserWarning):
    """Something about the data that the person should know; the work goes on."""
