"""Scripts by which Redis or Valkey decide as the library does."""
