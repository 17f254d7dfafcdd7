"""A source of one's own: twenty lines that take a bulletin's messages apart.

Hold it to its promises:  finllm source check examples/source_plugin.py:Bulletin
Use it:                   kind = "examples/source_plugin.py:Bulletin" under [[source]] in the settings
"""

from collections.abc import Iterator

from finllm.narrative.sources.rows import Unusable
from finllm.narrative.sources.source import Item


class Bulletin:
    """A message is a line for each text: time, symbol and text, apart by bars."""

    zone = "Europe/London"  # of times that state none

    def samples(self) -> tuple[bytes, ...]:
        """Return messages that it reads."""
        return (
            b"2024-03-14T12:30:00|ACME|Acme raises its outlook\n2024-03-14T12:31|BETA|Beta halted\n",
        )

    def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
        """Yield the texts of a message."""
        for line in payload.decode(errors="replace").splitlines():
            published, _, rest = line.partition("|")
            symbol, bar, text = rest.partition("|")
            if not bar:
                yield Unusable("broken_line", line[:80])
                continue
            yield Item(text=text, published=published, symbols=(symbol,))


if __name__ == "__main__":
    from finllm.narrative.sources.check import check_source

    report = check_source("Bulletin", Bulletin)
    for check in report.checks:
        print("holds" if check.ok else "fails", check.name, check.figure, check.mend)
    raise SystemExit(not report.ok)
