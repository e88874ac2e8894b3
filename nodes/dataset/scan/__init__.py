"""Reading raw videos: shots, motion, text, quality, duplicates."""
