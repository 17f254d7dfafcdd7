"""Sources of documents: one module for each kind of message, none of which opens a socket.

`source` is the doorway that a kind, or a plug-in, fulfils; `kinds` lists those that ship; `reading` turns
messages as they came into dated documents and refusals; `check` holds a source to what it promises.
"""
