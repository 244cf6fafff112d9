"""Rooms (ticks, state sync, inputs, interest) and device twins. Empty until its issue; see CHANGELOG.md."""
