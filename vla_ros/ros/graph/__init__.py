"""Description of the graph: its nodes, their order, and the processes they run in."""
