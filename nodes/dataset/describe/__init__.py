"""What models say of clips: captions, likeness, aesthetics."""
