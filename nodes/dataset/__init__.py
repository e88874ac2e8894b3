"""Raw videos into a curated data set of clips: cuts, scores, captions, filters."""
