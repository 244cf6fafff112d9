"""Rooms (game state at a tick rate) and device twins. They will live here; there is nothing yet."""
