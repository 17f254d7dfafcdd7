"""The vocabulary of the house: frozen records, errors, units and four pure rules.

Knows nothing of files, clocks, threads or the network. A record lives here because two rooms speak
of it. The rules are `tilt` (how an outlook moves a forecast), `label` (what counts as down, flat or
up), `transition` (which verdict may change a standing forecast) and `outlook` (what stands of several
answers, and what ends it).
"""
