"""How others speak to the bus: blocking and asyncio SDK, command line, gateways."""
