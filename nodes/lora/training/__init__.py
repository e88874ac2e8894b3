"""Training LoRAs on captioned pictures."""
