"""From wire frames to a consistent book, and from bar files to bars.

Takes a `Frame` or a bar file, gives book views, `Bar`s and `Gap`s. Never opens a socket, computes no
features. The doorways: `capture.read_recordings` (recorded frames), `markets.open_market` (frames to
books, any venue), `venues.doorway.Venue` (what a new venue provides), `check.check_feed`, `bars.read_bars`
(bar files), `instruments.InstrumentTable` (ticks and lots).
"""
