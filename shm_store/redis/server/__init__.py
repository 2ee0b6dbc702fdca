"""How a call gets to the server and back: addresses, connections, deadlines, and failures."""
