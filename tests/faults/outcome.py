"""What one fault did."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """One fault: survived, unless ``failing`` says what went wrong."""

    what: str
    """The fault, precisely enough to look into it."""
    failing: str = ""
    """What should not have happened; empty where all went as it should."""

    @property
    def survived(self) -> bool:
        return not self.failing


def unforeseen(error: BaseException) -> str:
    """One line about an exception that should have been a UserError."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
