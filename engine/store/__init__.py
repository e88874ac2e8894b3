"""Where results are kept: the device, memory and disk."""
