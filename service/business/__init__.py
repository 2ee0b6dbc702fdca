"""What the service does, whoever asks and wherever it is stored."""
