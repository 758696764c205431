"""The baseline model of votes, from words and plain features of the texts."""
