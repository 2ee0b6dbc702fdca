"""What the client receives: header fields, and answers in place of the application's."""
