"""The file: a workflow document, its subgraphs and modes, and the ecosystem's formats."""
