"""What we said, when, and why we changed our mind.

Never edits or deletes a record, never accepts a revision after expiry.
"""
