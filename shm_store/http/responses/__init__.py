"""The client's side: header fields on responses, and the answers to denied requests."""
