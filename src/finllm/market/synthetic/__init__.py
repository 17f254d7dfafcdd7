"""A seeded synthetic market with a newswire whose truth is known: the demo, and a test double.

It speaks Binance usdm wire JSON and knows nothing of decoders, so that the same pipeline runs on
it as on a recording. What happens, and where the ideas come from:

- An *efficient price* that nobody sees diffuses; its volatility and the event rate follow a hidden
  Markov chain of calm, active and stressed times (Hamilton 1989). Half of its variance is common,
  and the first instrument feels the common part 0.2 s before the next (`latent`).
- The *touch* stands still while the efficient price is within a zone around the mid, and walks
  after it otherwise (Robert & Rosenbaum 2011). Inside the zone, queue sizes and trade signs lean
  towards it, so that imbalance leads the next move (Cont & de Larrard 2013; Gould & Bonart 2016),
  with a slow noise that keeps its skill limited. Trade signs persist (Lillo & Farmer 2004)
  (`floor`).
- *Episodes* are planted in every two and a half minutes (`plan`): announcements about one instrument or all,
  whose effect sets in 2 to 10 s after publication and whose volatility halves in 30 s; echoes of
  them; a rumour that moves the price and is denied and reversed; a drain of one side's depth
  without news, after which the price slips that way; a gap in the diffs, mended by a new snapshot.
- Most *documents* have no effect and use the same words (`newswire`, `phrases`).

The same settings give the same bytes, and a shorter tape is the beginning of a longer one: nothing
is generated from what comes later. Everything random is a PCG64 stream of its own purpose.
"""

from finllm.market.synthetic.newswire import OUTLETS, Outlet
from finllm.market.synthetic.settings import LISTINGS, SyntheticMarket, checked
from finllm.market.synthetic.tape import SyntheticTape, document_line
from finllm.market.synthetic.truth import Truth, TruthKind

__all__ = [
    "LISTINGS",
    "OUTLETS",
    "Outlet",
    "SyntheticMarket",
    "SyntheticTape",
    "Truth",
    "TruthKind",
    "document_line",
    "generate",
]


def generate(settings: SyntheticMarket) -> SyntheticTape:
    """Return the tape of a synthetic market; nothing is computed until it is read.

    Raises:
        SettingsError: If a setting is outside its range or a name is unknown.
    """
    return SyntheticTape(checked(settings))
