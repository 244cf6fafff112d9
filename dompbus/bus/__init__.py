"""The bus: delivery, services and peers as cores without sockets, clocks or threads."""
