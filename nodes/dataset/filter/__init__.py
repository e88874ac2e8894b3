"""Deciding which clips are kept."""
