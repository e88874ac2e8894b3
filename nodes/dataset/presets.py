"""Defaults of nodes."""

LVD_F = """\
worst 25% motion
worst 25% aesthetics
worst 50% caption_similarity
worst 25% text_area
text_area <= 0.07"""
"""The rules that turned LVD into LVD-F (Blattmann et al. 2023, arXiv 2311.15127, section 3.3, appendices C, E.2.2)."""

PRESETS = {"lvd-f": LVD_F}
"""Rules by the line that stands for them."""

SUMMARISE = (
    "You are given two descriptions of one video clip. Write one sentence that says all that both say, with what "
    "moves and how. Write the sentence only."
)
"""The prompt for the language model that merges two captions into one."""
