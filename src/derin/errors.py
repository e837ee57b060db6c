"""What can go wrong, by whose hand. Every message says what happened, what came in, what to do."""

from typing import Any


class DerinError(ValueError):
    """Something the caller can mend. The command line prints it without a traceback and exits with 2."""


class SpecError(DerinError):
    """A value, a field or a file does not describe a spec."""


class ModelError(DerinError):
    """A model was built or called in a way that cannot work."""


class DoesNotFit(ModelError):
    """A model needs more memory than there is."""


class DataError(DerinError):
    """Data cannot be read, or cannot be learned from."""


class RunError(DerinError):
    """A run folder or a checkpoint cannot be written, read or continued."""


class TrainingFailed(RuntimeError):
    """Training met a number that is not finite. The command line exits with 3; `run` is as it was before."""

    run: Any = None
