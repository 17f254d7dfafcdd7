"""The error tree, named for what the caller should do.

    FinllmError
    |-- InputError            mend the input: names the place and the mend
    |   `-- SettingsError     mend the TOML file or the FINLLM_* override
    |-- ArtifactError         use another model, or rebuild this one: says what differs
    |-- LedgerError           the record cannot be relied on as it is
    |   `-- TamperedError     what is stored is not what was written
    `-- WorkerError           an inference process died or would not start

Expected market events (a gap, a stale quote, an abstention) are values, never errors.
"""


class FinllmError(Exception):
    """Anything that this package raises on purpose."""


class InputError(FinllmError):
    """The input cannot be used as it is.

    Args:
        what: What is wrong, in one clause.
        place: File, line, field or option at fault.
        mend: What the reader can do about it.
    """

    def __init__(self, what: str, *, place: str, mend: str) -> None:
        super().__init__(f"{place}: {what}. {mend}")
        self.what = what
        self.place = place
        self.mend = mend


class SettingsError(InputError):
    """A setting is unknown or has a value outside its range."""


class ArtifactError(FinllmError):
    """A model artifact does not fit what it is asked to serve."""


class LedgerError(FinllmError):
    """The ledger cannot do what was asked."""


class TamperedError(LedgerError):
    """What is stored is not what was written."""


class WorkerError(FinllmError):
    """An inference process died, would not start, or has no room for another instrument."""
