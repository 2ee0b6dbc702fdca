"""The records of a segment: slots, labels, and tallies."""
