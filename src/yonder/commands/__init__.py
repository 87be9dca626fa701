"""The commands: their arguments, what they print, how they end."""
