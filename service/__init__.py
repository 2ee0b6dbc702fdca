"""An example service: a short-link API whose workers share one rate limit."""
