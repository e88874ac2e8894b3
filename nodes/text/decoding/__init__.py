"""Decoding several tokens in each pass of a language model, without changing what it writes.

`loop` is transformers' own loop with a tree of guesses in each pass (`tree`, `reader`); a `Drafter` makes the guesses.
The methods are `lookahead`, `jacobi`, `assisted` (prompt lookup, draft models), `suffix`, `medusa` and `auto`.
`turned` makes small passes cheaper on CPUs, and `support` says which models and calls can't be served.
"""
