"""The two-speed protocol under fire: real owners, ledgers and gates in a simulated world, in virtual time."""
