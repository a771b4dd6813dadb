"""Plugins that nobody should write, one a module: so that one can die when it is imported, and no other."""
