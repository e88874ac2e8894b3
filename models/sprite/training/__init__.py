"""How the sprite family is trained, a module per member; `models.sprite.train` is the command."""
