"""`finllm_lab regimes`: fit the law, learn the rules, score the detector."""

from pathlib import Path
from typing import Annotated

import typer

from finllm_lab.cards import readable
from finllm_lab.options import DATA, Data

regimes = typer.Typer(help="Synthetic regimes, and the detector of regimes.", no_args_is_help=True)


@regimes.command("fit")
def fit(
    data: Data = DATA,
    out: Annotated[Path | None, typer.Option("--out", help="Default: the package.")] = None,
) -> None:
    """Fit the law of synthetic regimes to the training tapes, and show its hash.

    The same tapes give the same law. It is frozen: a law with another hash fails a test.
    """
    from finllm.features.book_spec import BOOK_SPEC
    from finllm_lab.regimes.law import LAW, fit_law, law_hash, write_law
    from finllm_lab.tapes import BOOK_TAPES, book_sessions, tape_paths

    tapes = [tape for tape in BOOK_TAPES if tape.use == "train"]
    sessions = [s for t in tapes for s in book_sessions(t.name, tape_paths(data, t))]
    columns = (BOOK_SPEC.columns["obi_1"], BOOK_SPEC.columns["sigma"])
    files = [file for tape in tapes for file in tape.files]
    path = out or LAW
    write_law(fit_law(sessions, columns, files), path)
    typer.echo(f"{law_hash(path)}  {path}")


@regimes.command("learn")
def learn(data: Data = DATA) -> None:
    """Learn the regime rules of books and bars on the training part, and put them into the shipped models.

    The models' weights stay as they are; their versions change with the rule.
    """
    from finllm.domain.units import parse_instant
    from finllm_lab.regimes import rules
    from finllm_lab.regimes.law import load_law
    from finllm_lab.tapes import (
        BARS,
        BOOK_TAPES,
        SYMBOLS,
        bar_sessions,
        between,
        book_sessions,
        tape_paths,
    )

    law = load_law()
    tapes = [tape for tape in BOOK_TAPES if tape.use == "train"]
    books = [s for t in tapes for s in book_sessions(t.name, tape_paths(data, t))]
    rules.write_rule("book", rules.book_rule(books, (law.small, law.large)))
    span = parse_instant("2005-01-01"), parse_instant("2015-01-01")
    bars = [between(s, *span) for s in bar_sessions(data / BARS, SYMBOLS)]
    rules.write_rule("bar", rules.bar_rule(bars))
    for name in ("book", "bar"):
        typer.echo(f"{rules.teach(name)}")


@regimes.command("score")
def score() -> None:
    """Learn on the training seeds, tune on the tuning seeds, and score the detector on unseen ones: JSON."""
    import msgspec

    from finllm_lab.regimes.law import load_law
    from finllm_lab.regimes.score import learnt, tune
    from finllm_lab.regimes.score import score as scored

    law = load_law()
    rule = learnt(law)
    edge, oracle = tune(law, rule)
    found = scored(law, msgspec.structs.replace(rule, confirm=edge), oracle)
    typer.echo(readable(found, indent=1))
