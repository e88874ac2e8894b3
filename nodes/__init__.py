"""The nodes that come with Kinograph, a package per field."""
