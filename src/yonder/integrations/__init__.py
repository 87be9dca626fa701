"""The rewards as functions that other trainers call; none of those trainers is imported here."""
