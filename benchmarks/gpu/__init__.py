"""Whether Kinograph is right and fast on a GPU: steps in named parts, each of which makes claims and measures."""
