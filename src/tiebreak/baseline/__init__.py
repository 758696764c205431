"""A simple model of votes, from words and plain features of the texts: what a language model has to beat."""
