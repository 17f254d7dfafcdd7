"""`finllm link`: parse, link, render."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from finllm.app.options import Config, Json, instant, print_json
from finllm.domain.errors import InputError
from finllm.domain.units import iso, parse_instant

if TYPE_CHECKING:
    from finllm.app.linked import Linked, Told
    from finllm.narrative.alignment.explanations import Answer, Explanation, Move


def link(
    document: Annotated[
        str,
        typer.Argument(
            help="A document's id, or the start of it: which moves may it be behind?",
            metavar="[DOC]",
            show_default=False,
        ),
    ] = "",
    *,
    move: Annotated[
        str,
        typer.Option(
            help="A move's id, or an instant: which documents may be behind it?",
            metavar="INSTANT|ID",
        ),
    ] = "",
    run: Annotated[
        Path | None,
        typer.Option("--run", help="A run that recorded its input.", metavar="RUN"),
    ] = None,
    tape: Annotated[
        list[Path] | None,
        typer.Option(help="Frames, where the run has none; repeat for more.", metavar="FILE"),
    ] = None,
    bars: Annotated[Path | None, typer.Option(help="Bars as CSV.", metavar="FILE")] = None,
    documents: Annotated[
        Path | None, typer.Option(help="Documents as JSON lines or CSV.", metavar="FILE")
    ] = None,
    symbol: Annotated[
        list[str] | None, typer.Option(help="Only this symbol's bars; repeat for more.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Tell of moves from here on.", metavar="T")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Use nothing received from here on.", metavar="T")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a timeline as HTML.", metavar="FILE")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Join news and moves: which moves a document may be behind, which documents a move.

    Knows what came afterwards: it tells how things went and feeds no forecast. Each pair has a lag
    (negative: the market led) and a probability, beside all other candidates and none of them; where
    nothing fits, nothing is named. With neither DOC nor --move, every move with what leads. Texts are read
    by the small transformer if its weights are installed, else by hashed words; the answer says by which.

    Example: finllm link --bars hourly.csv --documents posts.jsonl --symbol AAPL --move 2015-08-24T14:00
    """
    from finllm.app.linked import Sources, explained_by, find_document, find_move
    from finllm.app.linked import link as link_sources
    from finllm.app.settings import load_settings

    if document and move:
        raise InputError(
            "a document and a move are two questions", place="link", mend="Ask for one of them."
        )
    sources = Sources(
        run=run,
        tapes=tuple(tape or ()),
        bars=bars,
        documents=documents,
        symbols=frozenset(s.upper() for one in symbol or () for s in one.split(",")),
        since=0 if since is None else instant(since, "--from"),
        until=2**62 if until is None else instant(until, "--until"),
    )
    linked = link_sources(sources, load_settings(config))
    asked: list[tuple[Answer, Explanation | None]]
    if document:
        told = find_document(linked, document)
        asked = [(answer, one) for answer, one in explained_by(linked, told)]
        question = f"document {told.document_id}"
    else:
        moves = [find_move(linked, move, _maybe_instant(move))] if move else linked.moves()
        answers = [linked.answer(one) for one in moves]
        asked = [
            (a, e) for a in answers for e in (a.explanations[: None if move else 1] or (None,))
        ]
        question = f"move {moves[0].move_id}" if move else "every move"
    if out is not None:
        _write(out, timeline(linked, asked))
    if json:
        print_json(_builtins(linked, question, asked))
    else:
        _show(linked, question, asked, Console())


def _maybe_instant(text: str) -> int | None:
    try:
        return parse_instant(text) if "-" in text or len(text) > 17 else None
    except ValueError:
        return None


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", place=str(path), mend="Name another file."
        ) from error


def _builtins(
    linked: "Linked", question: str, asked: "list[tuple[Answer, Explanation | None]]"
) -> dict[str, Any]:
    return {
        "question": question,
        "space": linked.space,
        "encoder": linked.encoder,
        "n_moves": len(linked.moves()),
        "n_documents": len(linked.documents),
        "dropped": linked.dropped,
        "found": [
            {
                "move": msgspec.to_builtins(answer.move),
                "n_candidates": answer.n_candidates,
                "p_nothing": answer.p_nothing,
                "explanation": None if one is None else msgspec.to_builtins(one),
                "document": None
                if one is None
                else msgspec.to_builtins(linked.documents[one.document_id]),
            }
            for answer, one in asked
        ],
    }


def _show(
    linked: "Linked",
    question: str,
    asked: "list[tuple[Answer, Explanation | None]]",
    out: Console,
) -> None:
    table = Table(
        title=f"{question}, by {linked.space} over {linked.encoder}", title_justify="left"
    )
    for column in ("move", "what moved", "lag", "p", "document"):
        table.add_column(column, overflow="fold")
    for answer, one in asked[:200]:
        cells = (
            f"{iso(answer.move.ts_start)[:19]}\n{answer.move.move_id[:12]}",
            _moved(answer.move),
        )
        if one is None:
            why = (
                f"{answer.n_candidates} candidates, none fits"
                if answer.n_candidates
                else "none near"
            )
            table.add_row(*cells, "", f"{answer.p_nothing:.2f}", f"nothing: {why}")
            continue
        said = linked.documents[one.document_id]
        text = Text(f"{said.document_id[:12]} {said.source}: {said.text[:120]}")
        table.add_row(*cells, lag_text(one.lag_ns), f"{one.p:.2f}", text)
    out.print(table)
    if not asked:
        out.print("Nothing fits: no move within reach is better explained by it than by chance.")
    n = len(linked.moves())
    note = f"{n:,} moves, {len(linked.documents):,} documents, {len(asked):,} pairs told."
    dropped = ", ".join(f"{k} {v:,}" for k, v in sorted(linked.dropped.items()))
    out.print(note + (f" Not used: {dropped}." if dropped else ""), highlight=False)


def _moved(move: "Move") -> str:
    said = (f"{one.channel} {one.z_score:+.1f}" for one in move.anomalies[:6])
    return f"{move.instrument.rpartition(':')[2]}: {', '.join(said)}"


def lag_text(lag_ns: int) -> str:
    """Return a signed lag in words: `+ 3.2 s`, or `- 1.5 h (the market led)`."""
    size, unit = abs(lag_ns) / 1e9, "s"
    for most, name in ((60.0, "min"), (60.0, "h"), (24.0, "d")):
        if size < most:
            break
        size, unit = size / most, name
    sign = "-" if lag_ns < 0 else "+"
    return f"{sign} {size:.1f} {unit}" + (" (the market led)" if lag_ns < 0 else "")


# --- the picture -----------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _LEFT = 1180, 300, 70
_MOST_POINTS = 1_500


def timeline(linked: "Linked", asked: "list[tuple[Answer, Explanation | None]]") -> str:
    """Return a page: for each instrument asked about, its price with the moves and the documents."""
    instruments = list(dict.fromkeys(answer.move.instrument for answer, _ in asked))
    if not instruments:
        instruments = sorted(linked.markets)[:1]
    parts = [
        _chart(linked, name, [p for p in asked if p[0].move.instrument == name])
        for name in instruments
    ]
    rows = "".join(_row(linked, answer, one) for answer, one in asked[:400])
    return _PAGE.format(charts="".join(parts), rows=rows, space=escape(linked.space))


def _chart(linked: "Linked", name: str, asked: "list[tuple[Answer, Explanation | None]]") -> str:
    market = linked.markets[name]
    low, high = _span(linked, name, asked)
    kept = [(t, p) for t, p in zip(market.ends, market.prices, strict=True) if low <= t <= high]
    kept = kept[:: max(1, len(kept) // _MOST_POINTS)]
    if not kept:
        return f"<h2>{escape(name)}</h2><p>no beat in sight</p>"
    least, most = min(p for _, p in kept), max(p for _, p in kept)

    def x(ts: int) -> float:
        return _LEFT + (ts - low) / max(high - low, 1) * (_WIDTH - _LEFT - 10)

    def y(price: float) -> float:
        return 34 + (most - price) / max(most - least, 1e-12) * (_HEIGHT - 90)

    line = " ".join(f"{x(t):.1f},{y(p):.1f}" for t, p in kept)
    marks = []
    for number, (answer, one) in enumerate(asked, start=1):
        at = x(answer.move.ts_start)
        marks.append(
            f'<line class="move" x1="{at:.1f}" x2="{at:.1f}" y1="26" y2="{_HEIGHT - 52}"/>'
            f'<text class="no" x="{at:.1f}" y="20">{number}</text>'
        )
        if one is not None:
            marks.append(_mark(linked.documents[one.document_id], one, x, at))
    labels = "".join(
        f'<text class="ax" x="{_LEFT - 6}" y="{y(p) + 4:.1f}" text-anchor="end">{p:,.6g}</text>'
        for p in (least, most)
    ) + "".join(
        f'<text class="ax" x="{at}" y="{_HEIGHT - 4}" text-anchor="{side}">{iso(ts)[:19]}Z</text>'
        for at, ts, side in ((_LEFT, low, "start"), (_WIDTH - 10, high, "end"))
    )
    return (
        f"<h2>{escape(name)}</h2>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="price of {escape(name)}">'
        f'<polyline class="price" points="{line}"/>{"".join(marks)}{labels}</svg>'
    )


def _mark(said: "Told", one: "Explanation", x: Any, at: float) -> str:
    foot, doc = _HEIGHT - 40, x(said.ts_recv)
    kind = "led" if one.lag_ns < 0 else "doc"
    title = f"{said.source}: {said.text[:160]} (p {one.p:.2f}, lag {lag_text(one.lag_ns)})"
    return (
        f'<line class="lag" x1="{doc:.1f}" y1="{foot}" x2="{at:.1f}" y2="{_HEIGHT - 52}"/>'
        f'<circle class="{kind}" cx="{doc:.1f}" cy="{foot}" r="{3 + 5 * one.p:.1f}">'
        f"<title>{escape(title)}</title></circle>"
    )


def _span(
    linked: "Linked", name: str, asked: "list[tuple[Answer, Explanation | None]]"
) -> tuple[int, int]:
    ends = linked.markets[name].ends
    stamps = [answer.move.ts_start for answer, _ in asked]
    stamps += [linked.documents[one.document_id].ts_recv for _, one in asked if one is not None]
    if not stamps:
        return ends[0], ends[-1]
    beat = max(1, (ends[-1] - ends[0]) // max(len(ends), 1))
    reach = 24 * beat
    return max(ends[0], min(stamps) - reach), min(ends[-1], max(stamps) + reach)


def _row(linked: "Linked", answer: "Answer", one: "Explanation | None") -> str:
    cells = [iso(answer.move.ts_start)[:19] + "Z", _moved(answer.move)]
    if one is None:
        cells += ["", f"{answer.p_nothing:.2f}", f"nothing fits ({answer.n_candidates} candidates)"]
    else:
        said = linked.documents[one.document_id]
        cells += [lag_text(one.lag_ns), f"{one.p:.2f}", f"{said.source}: {said.text[:200]}"]
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>News and moves</title>
<style>
:root {{ color-scheme: light dark; --ink: light-dark(#222, #ddd); --dim: light-dark(#888, #889);
  --price: light-dark(#2457a6, #7fb0ff); --move: light-dark(#c0392b, #ff8a75);
  --doc: light-dark(#1e8449, #6fd39a); --led: light-dark(#b9770e, #f0c060); }}
body {{ font: 14px/1.45 system-ui, sans-serif; color: var(--ink); margin: 24px auto; max-width: 1200px;
  background: light-dark(#fff, #14161a); }}
h1 {{ font-size: 20px; }} h2 {{ font-size: 15px; margin: 18px 0 4px; }}
svg {{ width: 100%; }} .price {{ fill: none; stroke: var(--price); stroke-width: 1.4; }}
.move {{ stroke: var(--move); stroke-dasharray: 3 3; }} .no {{ fill: var(--move); font-size: 11px;
  text-anchor: middle; }}
.lag {{ stroke: var(--dim); }} .doc {{ fill: var(--doc); }} .led {{ fill: var(--led); }}
.ax {{ fill: var(--dim); font-size: 11px; }}
table {{ border-collapse: collapse; width: 100%; margin-top: 14px; counter-reset: n; }}
td, th {{ text-align: left; vertical-align: top; padding: 4px 8px; border-top: 1px solid
  light-dark(#e2e2e2, #333); }}
td:nth-child(3), td:nth-child(1) {{ white-space: nowrap; }}
</style>
<h1>News and moves</h1>
<p>Red: a move. Green: the document that may be behind it, larger where more probable; amber: the market
led. With hindsight: this feeds no forecast. By {space}.</p>
{charts}
<table><tr><th>move</th><th>what moved</th><th>lag</th><th>p</th><th>document</th></tr>{rows}</table>
</html>
"""
