"""A tally: what was read, what was used, and what was dropped why. Nothing is lost silently."""

from collections import Counter


class Tally:
    """Counts of one kind of input. `read` = `used` + everything dropped, once all is done.

    The first place of each reason is kept, so that a person can be shown where to look.
    """

    def __init__(self) -> None:
        self.read = 0
        self.used = 0
        self.dropped: Counter[str] = Counter()
        self.noted: Counter[str] = Counter()
        self.first_place: dict[str, str] = {}

    def drop(self, reason: str, place: str = "") -> None:
        """Count one input as dropped."""
        self.dropped[reason] += 1
        self.first_place.setdefault(reason, place)

    def withdraw(self, reason: str, place: str = "") -> None:
        """Count one input as dropped after all, which its reader has counted as used."""
        self.used -= 1
        self.drop(reason, place)

    def note(self, what: str, place: str = "") -> None:
        """Count something worth showing about an input that was used all the same."""
        self.noted[what] += 1
        self.first_place.setdefault(what, place)
