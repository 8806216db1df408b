"""The operator console: a web server for pages that look at one graph, of which one may command. Knows no ROS 2."""
