"""The sprite family: small models in the real architectures, trained on a world that `world` draws."""
