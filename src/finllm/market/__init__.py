"""From wire frames to a consistent book, and from bar files to bars.

Takes a `Frame` or a bar file, gives book views, `Bar`s and `Gap`s. Never opens a socket, computes no features.
"""
