"""Where results are kept: on the device, in memory and on disk."""
