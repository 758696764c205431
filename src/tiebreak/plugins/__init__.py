"""Plug-ins: a judge in other people's evaluations, a module for each package, which it imports."""
