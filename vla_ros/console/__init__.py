"""Operator console: a web server for one graph. Many pages may view, one may command. Independent of ROS 2."""
