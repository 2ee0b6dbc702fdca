"""Internal. What makes a rate limiter's answers correct HTTP, for any framework."""
