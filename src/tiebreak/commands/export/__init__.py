"""Exports of a judge into the form of another place: a file each."""
