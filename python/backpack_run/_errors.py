"""What this package raises beside Python's own KeyboardInterrupt, MemoryError, OSError and TypeError."""


class Error(RuntimeError):
    """Something went wrong: libtorch refused an operation, the machine lacks something, or there is a defect."""


class UsageError(Error, ValueError):
    """An argument that cannot be used: a name, a shape, an option."""


class UnsupportedError(UsageError, NotImplementedError):
    """Something that a model, a layer, a loss or a quantity cannot do; says which, and what is possible."""


class CommandError(Error):
    """A command of the program that failed.

    `exit_code` is 1 where some runs or checks failed, 2 for wrong arguments or files, 3 for the machine; `stdout` is what it
    printed all the same.
    """

    def __init__(self, text: str, exit_code: int, stdout: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.stdout = stdout
