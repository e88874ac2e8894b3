"""Language: loading a model, decoding several tokens at a time, and writing prompts that an image model understands."""
