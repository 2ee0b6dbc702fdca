"""Internal. Limits on requests, and correct HTTP for their answers, in any framework."""
