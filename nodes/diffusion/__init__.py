"""What the fields that use diffusion models share: loading pipelines, adapters, previews, pixels."""
