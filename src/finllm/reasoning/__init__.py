"""From forecasts and their evidence to verdicts that cite them, an outlook, and a trace of why.

Never fetches evidence itself, writes the ledger, or obeys text found inside evidence.
"""
