"""What the fields that make pictures larger by networks share: the networks, their files, and tiles."""
