"""The language model as a reasoner: asked in a schema before a deadline, checked, bounded, journalled.

Whatever it says moves a verdict by no more than the credibility behind it; where it says nothing usable
in time, the embedded reasoner answers and the verdict says so.
"""
