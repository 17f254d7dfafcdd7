"""From wire frames to a consistent book, and from bar files to bars.

Takes a `Frame` or a bar file, gives book views, `Bar`s and `Gap`s. Never opens a socket, computes no
features. The doorways: `tape.read_frames` and `tape.read_chain` (recorded frames), `feed.Market`
(frames to books), `bars.read_bars` (bar files), `instruments.InstrumentTable` (ticks and lots).
"""
