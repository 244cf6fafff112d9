"""The wire format: frames, control bodies, messages. See docs/protocol.md."""
