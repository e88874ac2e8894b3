"""Medusa heads: guesses at the tokens after the next (Cai et al. 2024, arXiv 2401.10774)."""
