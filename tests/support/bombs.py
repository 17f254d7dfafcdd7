"""Texts of a megabyte that a careless reader would not come to the end of."""

BOMBS = (
    "<script>" * 120_000,
    "<div style='display:none'>" * 38_000,
    "<" * 1_000_000,
    "&" * 1_000_000,
    "&amp;" * 200_000,
    "&lt;b" * 200_000,
    "<a " * 330_000,
    "<!--" * 250_000,
    "\ufdfa" * 300_000,
    "a\u0300" * 500_000,
    "http://" * 140_000,
    '">span class="' * 70_000,
    "\n \n" * 330_000,
    "\u202e\u200b" * 500_000,
    "\u0430" * 1_000_000,
    " " * 1_000_000,
    "<a " + "display:none " * 80_000,
    "<p>\n" * 250_000,
)
