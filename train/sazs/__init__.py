"""Training SAZS."""
