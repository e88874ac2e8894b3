"""What models add to clips: captions, similarities, aesthetics."""
